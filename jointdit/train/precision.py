"""Which arithmetic a device computes fast in."""

from __future__ import annotations

import torch


def choose_precision(asked: str, device: torch.device) -> str:
    """`asked`, or for "auto" bfloat16 where the device has instructions for it, else float32: without them bfloat16
    is many times slower."""
    if asked != "auto":
        return asked
    return "bfloat16" if _has_bfloat16(device) else "float32"


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version of PyTorch
        return any(getattr(torch.cpu, name, bool)() for name in probes)
    return device.type == "xpu"
