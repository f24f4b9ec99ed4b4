"""Stable Video Diffusion's UNet in stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from diffusers import UNetSpatioTemporalConditionModel
from einops import rearrange, repeat
from torch import Tensor, nn

from ...errors import InputError
from .state import (
    Call,
    ExpertState,
    call_directly,
    expand_timestep,
    layers_of,
    run_down_block,
    run_end,
    run_inner_block,
    run_up_blocks,
)


@dataclass(frozen=True)
class VideoCut:
    """The first down block and the last up block of a UNet in two parts each: outer layers, and those that lie deeper.

    A part is the block with those of its layers, or nothing where there are none.
    """

    layers: int  # of the up block that are outer
    outer_down: Sequence[nn.Module]
    inner_down: Sequence[nn.Module]
    inner_up: Sequence[nn.Module]
    outer_up: Sequence[nn.Module]


class VideoExpert:
    """Runs an UNetSpatioTemporalConditionModel stage by stage; mirrors its `forward` (diffusers 0.42)."""

    def __init__(self, unet: UNetSpatioTemporalConditionModel, call: Call = call_directly) -> None:
        self.unet, self.call = unet, call
        self.stages = len(unet.down_blocks) + 1  # In, the further down blocks, mid

    def start(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
        cut: VideoCut | None = None,
    ) -> ExpertState:
        """In, or what of it lies outside a cut.

        sample [B, F, 2C, h, w], c_noise [B] or scalar, encoder_hidden_states [B, S, D], ids [B, 3].
        """
        unet = self.unet
        batch, frames = sample.shape[:2]
        timestep = expand_timestep(timestep, batch, sample.device)
        embedding = unet.time_embedding(unet.time_proj(timestep).to(sample.dtype))
        ids = unet.add_time_proj(added_time_ids.flatten()).reshape(batch, -1).to(embedding.dtype)
        embedding = embedding + unet.add_embedding(ids)
        state = ExpertState(
            hidden=unet.conv_in(rearrange(sample, "b f c h w -> (b f) c h w")),
            skips=(),
            embedding=repeat(embedding, "b e -> (b f) e", f=frames),
            inputs={
                "encoder_hidden_states": repeat(encoder_hidden_states, "b s d -> (b f) s d", f=frames),
                "image_only_indicator": torch.zeros(batch, frames, dtype=sample.dtype, device=sample.device),
            },
            rows=frames,
        )
        state = replace(state, skips=(state.hidden,))
        return self.run(state, 0) if cut is None else self._down(state, cut.outer_down)

    def run(self, state: ExpertState, stage: int) -> ExpertState:
        """Stage 0 .. n: a down block, or mid as the last."""
        return run_inner_block(self.unet, state, stage, self.call)

    def rest_of_in(self, state: ExpertState, cut: VideoCut) -> ExpertState:
        """In after `start` with this cut."""
        return self._down(state, cut.inner_down)

    def finish(self, state: ExpertState) -> Tensor:
        """Out: the raw prediction [B, F, C, h, w]."""
        return self._end(run_up_blocks(self.unet, state, self.unet.up_blocks, self.call))

    def inner(self, state: ExpertState, cut: VideoCut) -> ExpertState:
        """Out as far as the cut; the skips that are left are those of `start` with this cut."""
        return run_up_blocks(self.unet, state, (*self.unet.up_blocks[:-1], *cut.inner_up), self.call)

    def outer(self, state: ExpertState, cut: VideoCut) -> Tensor:
        """The rest of Out."""
        return self._end(run_up_blocks(self.unet, state, cut.outer_up, self.call))

    def again(self, state: ExpertState, deep: Tensor, cut: VideoCut) -> Tensor:
        """`outer` after `start` with this cut, on the hidden state that `inner` gave in an earlier evaluation."""
        return self.outer(replace(state, hidden=deep, skips=state.skips[: cut.layers]), cut)

    def cut(self, layers: int | None) -> VideoCut:
        """What the last `layers` layers of the last up block take of In lies outside, with them; all else is deeper.

        With all layers, or None, both blocks are outside as wholes. Raises InputError where there are fewer.
        """
        down, up = self.unet.down_blocks[0], self.unet.up_blocks[-1]
        count = len(cast(nn.ModuleList, up.resnets))
        layers = count if layers is None else layers
        if not 1 <= layers <= count:
            raise InputError(
                f"reuse layers {layers}: the last block of this video model has {count} layers; give 1 to {count}"
            )
        whole = layers == count
        return VideoCut(
            layers,
            outer_down=layers_of(down, slice(layers - 1), sampler=whole),
            inner_down=layers_of(down, slice(layers - 1, None), sampler=not whole),
            inner_up=layers_of(up, slice(count - layers), sampler=False),
            outer_up=layers_of(up, slice(count - layers, None), sampler=True),
        )

    def _down(self, state: ExpertState, blocks: Sequence[nn.Module]) -> ExpertState:
        for block in blocks:
            state = run_down_block(block, state, self.call)
        return state

    def _end(self, state: ExpertState) -> Tensor:
        return rearrange(run_end(self.unet, state), "(b f) c h w -> b f c h w", f=state.rows)
