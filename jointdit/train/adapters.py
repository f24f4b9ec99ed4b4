"""Low-rank adapters (LoRA) in both experts, by PEFT: what learns of the experts where their own weights stay."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import cast

import torch
from torch import nn

from ..checkpoints.adapter_files import Matrices
from ..checkpoints.components import ADAPTER_FILES
from ..errors import InputError
from ..models.model import JointDiTModel

if find_spec("peft") is None:
    raise InputError(
        "adapter_rank (jointdit[train]) lacks peft; set adapter_rank = 0, or get it with: "
        f'"{sys.executable}" -m pip install peft'
    )

from peft import LoraConfig, inject_adapter_in_model  # noqa: E402
from peft.tuners.lora import LoraLayer  # noqa: E402

ADAPTER = "default"  # PEFT's name for the only one


def add_adapters(model: JointDiTModel, rank: int, targets: str, seed: int) -> nn.ModuleDict:
    """Puts adapters into both experts, which change nothing yet, and returns what learns: them and the Joint Blocks.

    targets: ends of the names of the linear layers that get one, with commas between them.
    seed: fixes their random halves.
    Raises InputError for a target that an expert does not have.
    """
    ends = [end.strip() for end in targets.split(",")]
    for component in ADAPTER_FILES:
        unet = getattr(model, component)
        names = [name for name, layer in unet.named_modules() if isinstance(layer, nn.Linear)]
        if unknown := [end for end in ends if not any(f".{name}".endswith(f".{end}") for name in names)]:
            raise InputError(f"adapter_targets {unknown[0]!r}: no linear layer of the {component} has such a name")
        layers = [name for name in names if any(f".{name}".endswith(f".{end}") for end in ends)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), unet)
    parts: dict[str, nn.Module] = {"joint_blocks": model.joint_blocks}
    for component in ADAPTER_FILES:
        layers = {name.replace(".", "/"): layer for name, layer in _layers(getattr(model, component))}
        parts[component] = nn.ModuleDict(layers)
    return nn.ModuleDict(parts)


def matrices(trained: nn.ModuleDict) -> dict[str, Matrices]:
    """The adapters in what `add_adapters` returned, by component and layer."""
    return {
        component: {
            name.replace("/", "."): (layer.get_parameter("A.weight"), layer.get_parameter("B.weight"))
            for name, layer in cast(nn.ModuleDict, trained[component]).items()
        }
        for component in ADAPTER_FILES
    }


def _layers(unet: nn.Module) -> Iterator[tuple[str, nn.ModuleDict]]:
    for name, layer in unet.named_modules():
        if isinstance(layer, LoraLayer):
            yield name, nn.ModuleDict({"A": layer.lora_A[ADAPTER], "B": layer.lora_B[ADAPTER]})
