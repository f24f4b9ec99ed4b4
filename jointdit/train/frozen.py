"""Weights that do not learn, kept in the precision that they are computed in."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def hold_frozen(module: nn.Module, dtype: torch.dtype) -> None:
    """Keeps the weights of linear layers and convolutions in `dtype`, into which autocast turns them anyway: the same
    numbers from half of the memory. The rest, small, stays: autocast computes norms in float32."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            layer.to(dtype)
