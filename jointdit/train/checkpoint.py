"""The whole state of a training run in one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..errors import InputError, some
from ..media.files import whole_file
from .optimizers import load_state_tensors, state_tensors


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    counters: dict[str, Any],
    average: nn.Module | None = None,
) -> None:
    """Write weights, buffers, their average, optimizer state and `counters` (JSON values).

    A kill leaves the old file or the new one.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for index, state in state_tensors(optimizer).items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata={"counters": json.dumps(counters)})


def read_counters(path: Path) -> dict[str, Any]:
    """The counters alone. Raises InputError if it is not a file of `save_state`."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["counters"])
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not the state of a training ({error}); move it away, or choose another output"
        ) from error


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None = None
) -> dict[str, Any]:
    """Restore what `save_state` wrote, strictly, and return the counters.

    Raises InputError if the state belongs to another model.
    """
    weights: dict[str, dict[str, torch.Tensor]] = {"model": {}, "average": {}}
    states: dict[int, dict[str, torch.Tensor]] = {}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():
            kind, rest = key.split(".", 1)
            if kind in weights:
                weights[kind][rest] = file.get_tensor(key)
            else:
                index, name = rest.split(".", 1)
                states.setdefault(int(index), {})[name] = file.get_tensor(key)
        counters = json.loads(file.metadata()["counters"])
    theirs, ours = ({name: each.shape for name, each in w.items()} for w in (weights["model"], model.state_dict()))
    if other := sorted({name for name, _ in theirs.items() ^ ours.items()}):
        raise InputError(f"{path}: the state of another model ({some(other)} differ); choose another output")
    model.load_state_dict(weights["model"])
    if average is not None:
        average.load_state_dict(weights["average"])
    load_state_tensors(optimizer, states)
    return counters


def load_average(path: Path, average: nn.Module) -> None:
    """The averaged weights alone, strictly."""
    with safe_open(path, framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith("average.")]
        average.load_state_dict({key.removeprefix("average."): file.get_tensor(key) for key in keys})
