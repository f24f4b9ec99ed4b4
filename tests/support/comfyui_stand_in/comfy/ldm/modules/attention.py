"""ComfyUI's attention: [B, N, C] of `heads` heads; a mask [B, N, S] is added to the scores."""

from __future__ import annotations

import torch
from torch import Tensor


def attention_pytorch(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    raise AssertionError("the nodes leave PyTorch's attention to diffusers")


def attention_sub_quad(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    raise AssertionError("not asked for")


def attention_split(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    query, key, value = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        assert mask.shape == (len(q), q.shape[1], k.shape[1])
        scores = scores + mask[:, None]
    return (torch.softmax(scores, dim=-1) @ value).transpose(1, 2).flatten(2)


optimized_attention = attention_sub_quad  # ComfyUI's own choice on a CPU
