"""The exponential moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Moves `average` towards `model` after step `step`, counted from 1. Early steps count more, so that the random
    start is forgotten; later the average keeps the share `decay` of itself."""
    weight = 1 - min(decay, step / (step + 10))
    targets, sources = list(average.state_dict().values()), list(model.state_dict().values())
    for target, source in zip(targets, sources, strict=True):
        source = source.to(target.device)
        target.lerp_(source, weight) if target.is_floating_point() else target.copy_(source)
