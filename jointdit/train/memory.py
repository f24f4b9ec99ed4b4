"""How many clips at once, and whether activations are kept or computed again: chosen for the GPU that is there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..errors import InputError

SHARE = 0.9  # of the free memory that is planned with; the rest is for what breaks up


@dataclass(frozen=True)
class Plan:
    """micro_batch: clips at once.    checkpointing: activations are computed again in the backward pass."""

    micro_batch: int
    checkpointing: bool


def plan(free: float, whole: float, thrifty: float, clips: int) -> Plan:
    """The fastest way for `clips` clips of a step, in parts as even as they can be.

    free: bytes that there are.    whole, thrifty: bytes that one clip takes with its activations kept, and with
    gradient checkpointing; infinite if it does not fit. Raises InputError if one clip does not fit in any way.
    """
    for needed, checkpointing in ((whole, False), (thrifty, True)):
        if fitting := int(SHARE * free / needed):
            parts = math.ceil(clips / fitting)
            return Plan(math.ceil(clips / parts), checkpointing)
    raise InputError(
        f"one clip with gradient checkpointing does not fit into the {free / 2**30:.1f} GiB that are free; "
        "use smaller clips"
    )


def measurable(device: torch.device) -> bool:
    """Whether this device tells how much memory it has and had."""
    return device.type == "cuda"


def free_bytes(device: torch.device) -> int:
    """What this process can still get."""
    torch.cuda.empty_cache()
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserved


def peak_bytes(device: torch.device, run: Callable[[], None]) -> float:
    """Bytes that `run` takes at most, beyond what is there before; infinite if they are not to be had."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        run()
    except torch.OutOfMemoryError:
        return math.inf
    return torch.cuda.max_memory_allocated(device) - before
