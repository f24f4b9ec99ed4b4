"""Memory settings of a pipeline: where its weights rest, and how much it computes at once."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from torch import nn

from ..errors import InputError

OFFLOADS = ("none", "component", "stage")


@dataclass(frozen=True)
class Memory:
    """What is given up for memory. Latents are those of the plain path, but for `video_pool` and `float8`.

    offload: "component": a component is on the device only while it is used. "stage": of the video UNet, moreover, one
    block at a time. Costs the time of the copies, which for "stage" are those of the whole UNet in every step.
    max_batch: rows of one evaluation of the model, samples times guidance passes; 1 needs least and takes longest.
    feed_forward_chunks: the video UNet's feed-forward layers run a frame at a time.
    query_chunk: queries of one call of attention in Joint Blocks (fused attention does without).
    decode_chunk: frames that the video autoencoder decodes at once; its norms pool over them, so it shows a little.
    video_pool: Joint Blocks average the video's keys and values over so many tokens a side: approximate.
    float8: the weights of both UNets' blocks are stored in eight bits (`float8.py`): approximate; cannot be undone.
    Raises InputError for values out of range.
    """

    offload: str = "none"
    max_batch: int | None = None
    feed_forward_chunks: bool = False
    query_chunk: int | None = None
    decode_chunk: int = 8
    video_pool: int = 1
    float8: bool = False

    def __post_init__(self) -> None:
        if self.offload not in OFFLOADS:
            raise InputError(f"offload {self.offload!r}: give one of {', '.join(OFFLOADS)}")
        for name in ("max_batch", "query_chunk", "decode_chunk", "video_pool"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}, but must be at least 1")


# How far to go, by name. All of them give the plain path's latents.
PRESETS = {
    "plain": Memory(),
    "low": Memory(offload="component", max_batch=1, feed_forward_chunks=True, decode_chunk=2),
    "lowest": Memory(offload="stage", max_batch=1, feed_forward_chunks=True, query_chunk=4096, decode_chunk=1),
}


def chunk_feed_forward(unet: nn.Module, chunks: bool) -> None:
    """Whether feed-forward layers take one frame at a time: a row of the spatial ones, a place of the temporal ones."""
    for module in unet.modules():
        if isinstance(module, BasicTransformerBlock | TemporalBasicTransformerBlock):
            module.set_chunk_feed_forward(1 if chunks else None, dim=0)
