"""Muon for the matrices of a network, and Adam for the rest of it.

Muon (Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks") replaces the momentum of a weight
matrix by the nearest matrix whose singular values are alike, so that no direction is left behind. Its steps are scaled
to the size of Adam's (2502.16982, "Muon is Scalable for LLM Training", section 2.2), so both take one learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

QUINTIC = (3.4445, -4.7750, 2.0315)  # a, b, c of Jordan et al.: singular values go to between 0.7 and 1.2
ITERATIONS = 5
ADAM_SIZE = 0.2  # root mean square of Adam's steps
MOMENTUM = 0.95
BETAS, EPSILON = (0.9, 0.98), 1e-8


class Muon(Optimizer):
    """groups: with `matrices`, whether Muon moves them (two or more dimensions, the first against all others).
    dtype: of the iteration, for which bfloat16 is exact enough where the processor has such instructions."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float = 1e-3, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(groups, {"lr": lr, "matrices": False})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            move = self._move_matrix if group["matrices"] else self._move
            for parameter in group["params"]:
                if parameter.grad is not None:
                    move(parameter, parameter.grad, group["lr"])

    def _move_matrix(self, parameter: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        step = gradient.lerp(state["momentum"], MOMENTUM).flatten(1)  # Nesterov's
        size = ADAM_SIZE * math.sqrt(max(step.shape))
        parameter.add_(orthogonal(step, self.dtype).view_as(parameter), alpha=-rate * size)

    def _move(self, parameter: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - BETAS[0])
        state["square"].lerp_(gradient.square(), 1 - BETAS[1])
        mean, square = (
            state[name] / (1 - beta ** state["step"]) for name, beta in zip(("mean", "square"), BETAS, strict=True)
        )
        parameter.addcdiv_(mean, square.sqrt() + EPSILON, value=-rate)


def orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """[n, m] -> about U V^T of its singular value decomposition, by a Newton-Schulz iteration in `dtype`."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + EPSILON)).to(dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon may move a parameter: no vector, no table of embeddings, and not the ends of a UNet, whose rows
    stand for channels of their own."""
    return parameter.ndim > 1 and not any(end in name for end in ("conv_in.", "conv_out.", "_embedding.weight"))
