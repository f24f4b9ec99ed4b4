"""The optimizer of a run: AdamW, whole or in eight bits, and its state in each process or shared (ZeRO)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer

from ..errors import InputError

BETAS = (0.9, 0.99)


def make_optimizer(groups: list[dict[str, Any]], name: str, sharded: bool) -> Optimizer:
    """groups: of parameters, as torch's optimizers take them.

    name: "adamw", or "adamw8bit": both moments in eight bits (2110.02861), by bitsandbytes.
    sharded: each process keeps the moments of its share of the parameters, and sends it to the others (ZeRO's first
    stage, 1910.02054).
    Raises InputError where bitsandbytes is missing.
    """
    kind: Any = _eight_bit() if name == "adamw8bit" else torch.optim.AdamW
    if sharded and distributed.is_initialized():
        return ZeroRedundancyOptimizer(groups, kind, betas=BETAS, weight_decay=0.0)
    return kind(groups, betas=BETAS, weight_decay=0.0)


def _eight_bit() -> type[Optimizer]:
    if find_spec("bitsandbytes") is None:
        raise InputError(
            "optimizer = adamw8bit (jointdit[adamw8bit]) lacks the package; set optimizer = adamw, or get it with: "
            f'"{sys.executable}" -m pip install bitsandbytes'
        )
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit


def gather_state(optimizer: Optimizer) -> None:
    """Brings a sharded state to the first process, for `state_tensors` there. All processes take part."""
    if isinstance(optimizer, ZeroRedundancyOptimizer):
        optimizer.consolidate_state_dict(to=0)


def state_tensors(optimizer: Optimizer) -> dict[int, dict[str, Tensor]]:
    """The state of each parameter, by its number over all groups. The same, sharded or not."""
    found: dict[int, dict[str, Tensor]] = {}
    for number, state in optimizer.state_dict()["state"].items():
        tensors = found[number] = {}
        for name, value in state.items():  # of eight bits, most are one level deeper
            for key, each in value.items() if isinstance(value, Mapping) else ((name, value),):
                # All parameters share the maps from eight bits to numbers.
                tensors[key] = each.clone() if key.startswith("qmap") else torch.as_tensor(each)
    return found


def load_state_tensors(optimizer: Optimizer, states: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Restores what `state_tensors` returned; what has no state yet starts anew."""
    groups, first = [], 0
    for group in optimizer.param_groups:
        last = first + len(group["params"])
        groups.append({**group, "params": list(range(first, last))})
        first = last
    plain = {
        number: {name: int(value) if value.dtype == torch.int64 else value for name, value in state.items()}
        for number, state in states.items()
    }
    optimizer.load_state_dict({"state": plain, "param_groups": groups})


def bytes_to_come(optimizer: Optimizer) -> int:
    """What the two moments will take in this process, as long as they are not there yet."""
    own = optimizer.optim if isinstance(optimizer, ZeroRedundancyOptimizer) else optimizer
    if own.state:
        return 0
    learned = sum(parameter.nbytes for group in own.param_groups for parameter in group["params"])
    return 2 * learned if isinstance(own, torch.optim.AdamW) else learned // 2
