"""Layers that ComfyUI can patch and load by themselves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class CastWeightBiasOp:
    comfy_cast_weights = False
    weight_function: list[Callable[[Tensor], Tensor]] = []
    bias_function: list[Callable[[Tensor], Tensor]] = []


def cast_bias_weight(
    s: nn.Module,
    device: torch.device,
    dtype: torch.dtype,
    bias_dtype: torch.dtype | None,
    offloadable: bool,
) -> tuple[Tensor, Tensor | None, object]:
    bias = None if s.bias is None else s.bias.to(device, bias_dtype)
    return s.weight.to(device, dtype), bias, None


def uncast_bias_weight(s: nn.Module, weight: Tensor, bias: Tensor | None, offload_stream: object) -> None:
    pass
