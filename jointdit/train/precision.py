"""Which arithmetic a device computes fast in, and an accelerator that trains in it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

logger = logging.getLogger(__name__)
MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # accelerate's names


def make_accelerator(precision: str = "float32", **options: Any) -> Accelerator:
    """An accelerator of a run that trains in `precision`, with accelerate's own `options`.

    accelerate keeps the precision of a process's first run for all of its runs and refuses another one, so that a run
    in float32 after one in bfloat16 failed. A new state leaves the accelerators that are there already with their own.
    """
    AcceleratorState._shared_state = {}
    return Accelerator(mixed_precision=MIXED[precision], **options)


def choose_precision(asked: str, device: torch.device) -> str:
    """`asked`, or for "auto" bfloat16 where the device has instructions for it, else float32: without them bfloat16
    is many times slower, which is told where it is asked for."""
    if asked == "bfloat16":
        warn_of_slow_bfloat16(device)
    if asked != "auto":
        return asked
    return "bfloat16" if _has_bfloat16(device) else "float32"


def warn_of_slow_bfloat16(device: torch.device) -> None:
    """Says where the device has no instructions for bfloat16."""
    if not _has_bfloat16(device):
        logger.warning("bfloat16: no instructions for it on %s: float32 is many times faster here", device)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version of PyTorch
        return any(getattr(torch.cpu, name, bool)() for name in probes)
    return device.type == "xpu"
