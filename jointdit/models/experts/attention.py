"""Cross attention to a single token, whose result does not depend on the queries."""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn


class SingleTokenAttention(AttnProcessor2_0):
    """The softmax over one key is 1, so every query gets the value: the same numbers without computing queries.

    The video expert attends to the picture's one CLIP embedding. With gradients on, diffusers' processor computes all
    of it, so that every weight has a gradient, even where it is zero.
    """

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args, **inputs
    ) -> Tensor:
        """[R, N, C], [R, 1, D] -> [R, N, C]."""
        alone = encoder_hidden_states is not None and encoder_hidden_states.shape[1] == 1
        if not alone or torch.is_grad_enabled():
            return super().__call__(attn, hidden_states, encoder_hidden_states, *args, **inputs)
        assert attn.to_v is not None and attn.to_out is not None  # as in every block of both UNets
        to_out, _ = attn.to_out  # and the dropout
        return to_out(attn.to_v(encoder_hidden_states)).expand_as(hidden_states)


def shorten_cross_attention(unet: nn.Module) -> None:
    """Makes the cross attention of a video UNet skip its queries (`SingleTokenAttention`)."""
    for name, module in unet.named_modules():
        if isinstance(module, Attention) and name.endswith("attn2"):
            # diffusers names one processor class where it takes any
            module.set_processor(SingleTokenAttention())  # pyright: ignore[reportArgumentType]
