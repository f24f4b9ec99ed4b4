"""The commands `save-milestone` and `load-milestone`: a long training in a file that is small enough for a repository.

It holds the averaged weights of what a run teaches, in eight bits with a scale for each row, and how far the run was.
The optimizer starts anew, and each weight is off by about a hundredth, which some dozens of steps make good; the whole
state is fifteen times as large.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...errors import InputError, in_one_line
from ...media.files import whole_file
from ...train.checkpoint import load_average, read_counters, save_state
from .experts import RUNS, build
from .recipe import TinyRecipe
from .training_loop import STATE, make_optimizer

LEVELS = 127


def save_milestone(recipe: TinyRecipe) -> None:
    """Writes what the last run that has a state learned beyond `start`."""
    run = next((run for run in reversed(RUNS) if (recipe.runs / run / STATE).exists()), None)
    if run is None:
        raise InputError(f"{recipe.runs}: no run has a state to save")
    model, _ = build(recipe)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    path = recipe.runs / run / STATE
    load_average(path, model)
    tensors: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        if not torch.equal(weight, before[name]):
            tensors |= {f"{name}:{part}": each for part, each in zip(("rows", "scales"), packed(weight), strict=True)}
    about = {"run": run, "counters": json.dumps(read_counters(path))}
    recipe.milestone.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(recipe.milestone) as partial:
        save_file(tensors, partial, metadata=about)


def load_milestone(recipe: TinyRecipe) -> None:
    """Writes the state from which the run goes on. Raises InputError where there is one already, for a missing or
    damaged file, and for the weights of another architecture."""
    model, _ = build(recipe)
    weights = model.state_dict()
    run, counters, learned = _read(recipe.milestone)
    for name, (rows, scales) in learned.items():
        if name not in weights or weights[name].numel() != rows.numel():
            raise InputError(f"{recipe.milestone}: {name} is of another model")
        weights[name] = unpacked(rows, scales).view_as(weights[name])
    path = recipe.runs / run / STATE
    if path.exists():
        raise InputError(f"{path}: there already; choose other --runs")
    model.load_state_dict(weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_state(path, model, make_optimizer(model, {}, False), counters, average=copy.deepcopy(model))


def _read(path: Path) -> tuple[str, dict[str, Any], dict[str, tuple[Tensor, Tensor]]]:
    """The run, its counters, and rows and scales by the name of the weight."""
    if not path.exists():
        raise InputError(f"{path}: missing; name the file with --milestone")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            names = {key.rpartition(":")[0] for key in file.keys()}
            learned = {
                name: (file.get_tensor(f"{name}:rows"), file.get_tensor(f"{name}:scales")) for name in sorted(names)
            }
        run, counters = RUNS[RUNS.index(about["run"])], json.loads(about["counters"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: no milestone, or damaged ({in_one_line(error)}); fetch it again") from error
    return run, counters, learned


def packed(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[n, ...] -> int8 [n, m] and the float32 scale of each row [n, 1]; of a vector, one row."""
    rows = weight.float().reshape(len(weight) if weight.ndim > 1 else 1, -1)
    scales = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / LEVELS
    return (rows / scales).round().to(torch.int8), scales


def unpacked(rows: Tensor, scales: Tensor) -> Tensor:
    return rows.float() * scales
