"""Muon: what moves as a matrix, and how far."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from jointdit.recipes.tiny.muon import Muon, is_matrix, orthogonal
from jointdit.recipes.tiny.training_loop import make_optimizer


def test_singular_values_become_alike_and_directions_stay():
    generator = torch.Generator().manual_seed(0)
    for shape, dtype in itertools.product(((24, 40), (40, 24)), (torch.float32, torch.bfloat16)):
        matrix = torch.randn(shape, generator=generator)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        found = left.T @ orthogonal(matrix, dtype) @ right.T
        assert values.max() / values.min() > 4
        assert 0.6 < found.diag().min() and found.diag().max() < 1.3
        assert (found - found.diag().diag()).abs().max() < 0.05, "only the singular values change"


def test_a_step_is_as_large_as_one_of_adam():
    weight = nn.Parameter(torch.zeros(32, 3, 5))
    weight.grad = torch.randn(32, 3, 5, generator=torch.Generator().manual_seed(1))
    Muon([{"params": [weight], "matrices": True}], lr=0.01).step()
    assert 0.5 < weight.detach().square().mean().sqrt() / (0.2 * 0.01) < 2
    assert (weight.detach() * weight.grad).sum() < 0, "downhill"


def test_what_is_no_matrix_moves_as_adam_does():
    start, gradients = torch.randn(7), torch.randn(4, 7)
    moved = []
    for kind in (lambda group: Muon(group, lr=0.1), lambda group: torch.optim.Adam(group, lr=0.1, betas=(0.9, 0.98))):
        parameter = nn.Parameter(start.clone())
        optimizer = kind([{"params": [parameter]}])
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        moved.append(parameter.detach())
    torch.testing.assert_close(*moved)


def test_ends_vectors_and_embeddings_are_no_matrices():
    unet = nn.ModuleDict({"conv_in": nn.Conv2d(4, 8, 3), "mid": nn.Linear(8, 8), "token_embedding": nn.Embedding(5, 8)})
    model = nn.ModuleDict({"video_unet": unet})
    assert [name for name, each in model.named_parameters() if is_matrix(name, each)] == ["video_unet.mid.weight"]
    optimizer = make_optimizer(model, {"video_unet.conv_in": 0.3}, muon=True)
    factors = {(group["factor"], group["matrices"]): len(group["params"]) for group in optimizer.param_groups}
    assert factors == {(0.3, False): 2, (1.0, True): 1, (1.0, False): 2}
