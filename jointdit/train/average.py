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


class Averaged:
    """Puts averaged weights into a module for the time of a `with` block."""

    def __init__(self, module: nn.Module, average: nn.Module) -> None:
        self.module, self.average = module, average

    def __enter__(self) -> None:
        average = self.average.state_dict()
        tensors = self.module.state_dict().items()
        self.kept = {name: tensor.to(average[name].device, copy=True) for name, tensor in tensors}
        self.module.load_state_dict(average)

    def __exit__(self, *error: object) -> None:
        self.module.load_state_dict(self.kept)
