"""The experts' attention as ComfyUI's options say: --use-sage-attention, --use-split-cross-attention and so on."""

from __future__ import annotations

from collections.abc import Callable

import comfy.cli_args
from comfy.ldm.modules import attention
from diffusers.models.attention_processor import Attention
from torch import Tensor

from ...jointdit.pipeline import JointDiTPipeline

FEWER_QUERIES = 1024  # at once in Joint Blocks, where ComfyUI is told to save memory


def follow_comfyui(pipe: JointDiTPipeline) -> None:
    """Gives both UNets ComfyUI's attention where it is not PyTorch's fused one, which they use anyway.

    Sub-quadratic attention is what ComfyUI falls back to; here it must be asked for. The Joint Blocks keep PyTorch's,
    in chunks where ComfyUI is told to save memory.
    """
    chosen = attention.optimized_attention
    if query_chunk := joint_query_chunk():
        pipe.joint_blocks.set_memory(query_chunk)
    elif chosen in (attention.attention_pytorch, attention.attention_sub_quad):
        return
    for unet in (pipe.video_unet, pipe.audio_unet):
        unet.set_attn_processor(ComfyAttention(chosen))


def joint_query_chunk() -> int | None:
    """How many queries a Joint Block attends with at once by ComfyUI's options; None: all."""
    options = comfy.cli_args.args
    return FEWER_QUERIES if options.use_split_cross_attention or options.use_quad_cross_attention else None


class ComfyAttention:
    """A processor of diffusers' transformer blocks, [B, N, C] to [B, N, C], that calls one of ComfyUI's functions."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """attention_mask: added to the scores, [B, 1, S]."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        assert attn.to_k is not None and attn.to_v is not None and attn.to_out is not None  # as in both UNets' blocks
        query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        if attention_mask is not None:
            attention_mask = attention_mask.expand(-1, query.shape[1], -1)  # ComfyUI takes slices of its queries
        attended = self.function(query, key, value, attn.heads, mask=attention_mask)
        to_out, dropout = attn.to_out
        return dropout(to_out(attended))
