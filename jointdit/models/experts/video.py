"""Stable Video Diffusion's UNet in stages."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from diffusers import UNetSpatioTemporalConditionModel
from einops import rearrange, repeat
from torch import Tensor, nn

from .state import Call, ExpertState, call_directly, expand_timestep, run_end, run_inner_block, run_up_blocks


class VideoExpert:
    """Runs an UNetSpatioTemporalConditionModel stage by stage; mirrors its `forward` (diffusers 0.42)."""

    def __init__(self, unet: UNetSpatioTemporalConditionModel, call: Call = call_directly) -> None:
        self.unet, self.call = unet, call
        self.stages = len(unet.down_blocks) + 1  # In, the further down blocks, mid

    def start(
        self, sample: Tensor, timestep: Tensor | float, encoder_hidden_states: Tensor, added_time_ids: Tensor
    ) -> ExpertState:
        """In. sample [B, F, 2C, h, w], c_noise [B] or scalar, encoder_hidden_states [B, S, D], ids [B, 3]."""
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
        return self.run(replace(state, skips=(state.hidden,)), 0)

    def run(self, state: ExpertState, stage: int) -> ExpertState:
        """Stage 0 .. n: a down block, or mid as the last."""
        return run_inner_block(self.unet, state, stage, self.call)

    def finish(self, state: ExpertState) -> Tensor:
        """Out: the raw prediction [B, F, C, h, w]."""
        return self.shallow(self.deep(state))

    def deep(self, state: ExpertState) -> ExpertState:
        """Out but for its last up block, which takes the skips that are left: some of In's."""
        return run_up_blocks(self.unet, state, slice(-1), self.call)

    def again(self, state: ExpertState, deep: Tensor) -> Tensor:
        """Out after a new In, on the hidden state that `deep` had in an earlier evaluation."""
        used = len(cast(nn.ModuleList, self.unet.up_blocks[-1].resnets))
        return self.shallow(replace(state, hidden=deep, skips=state.skips[:used]))

    def shallow(self, state: ExpertState) -> Tensor:
        """The rest of Out."""
        last = run_up_blocks(self.unet, state, slice(-1, None), self.call)
        return rearrange(run_end(self.unet, last), "(b f) c h w -> b f c h w", f=state.rows)
