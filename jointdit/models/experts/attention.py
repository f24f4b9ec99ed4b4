"""Cross attention to a single token: what it gives does not depend on the queries."""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn


class SingleTokenAttention(AttnProcessor2_0):
    """The softmax over one key is 1, so the value is the answer to every query: the same numbers without the queries.

    The video expert attends to the picture's one CLIP embedding. In training its own processor computes the whole, so
    that every weight has its gradient, if it be zero.
    """

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args, **inputs
    ) -> Tensor:
        """[R, N, C], [R, 1, D] -> [R, N, C]."""
        alone = encoder_hidden_states is not None and encoder_hidden_states.shape[1] == 1
        if not alone or torch.is_grad_enabled():
            return super().__call__(attn, hidden_states, encoder_hidden_states, *args, **inputs)
        to_out, _ = attn.to_out  # and the dropout
        return to_out(attn.to_v(encoder_hidden_states)).expand_as(hidden_states)


def shorten_cross_attention(unet: nn.Module) -> None:
    """Gives the cross attention of a video UNet its short way."""
    for name, module in unet.named_modules():
        if name.endswith("attn2"):
            module.set_processor(SingleTokenAttention())
