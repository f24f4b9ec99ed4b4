"""AudioLDM2's UNet in stages."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers import AudioLDM2UNet2DConditionModel
from torch import Tensor

from .state import Call, ExpertState, call_directly, expand_timestep, run_end, run_inner_block, run_up_blocks


class AudioExpert:
    """Runs an AudioLDM2UNet2DConditionModel stage by stage; mirrors its `forward` (diffusers 0.42).

    Autocast does not reach it where its weights are float32: in strong noise, sigma times the rounding of epsilon would
    be larger than what the clean estimate still has to learn, and the audio expert is a hundredth of the work.
    """

    def __init__(self, unet: AudioLDM2UNet2DConditionModel, call: Call = call_directly) -> None:
        self.unet, self.call = unet, call
        self.stages = len(unet.down_blocks) + 1

    def start(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_1: Tensor,
        encoder_attention_mask_1: Tensor,
    ) -> ExpertState:
        """In. sample [B, C, l, m], timestep [B] or scalar, two text sequences [B, S, D], mask of the second [B, S]."""
        unet = self.unet
        timestep = expand_timestep(timestep, sample.shape[0], sample.device)
        with _full_precision(unet, sample.device):
            hidden = unet.conv_in(sample)
            embedding = unet.time_embedding(unet.time_proj(timestep).to(sample.dtype))
        state = ExpertState(
            hidden=hidden,
            skips=(hidden,),
            embedding=embedding,
            inputs={
                "encoder_hidden_states": encoder_hidden_states,
                "encoder_hidden_states_1": encoder_hidden_states_1,
                # The UNet's top-level forward turns masks into biases; its blocks expect them so.
                "encoder_attention_mask_1": ((1 - encoder_attention_mask_1.to(sample.dtype)) * -10000.0).unsqueeze(1),
            },
        )
        return self.run(state, 0)

    def run(self, state: ExpertState, stage: int) -> ExpertState:
        """Stage 0 .. n: a down block, or mid as the last."""
        with _full_precision(self.unet, state.hidden.device):
            return run_inner_block(self.unet, state, stage, self.call)

    def finish(self, state: ExpertState) -> Tensor:
        """Out: the raw prediction [B, C, l, m]."""
        with _full_precision(self.unet, state.hidden.device):
            return run_end(self.unet, run_up_blocks(self.unet, state, self.unet.up_blocks, self.call))


def _full_precision(unet: AudioLDM2UNet2DConditionModel, device: torch.device) -> AbstractContextManager[Any]:
    """device: where it computes; its weights may rest elsewhere."""
    known = torch.amp.is_autocast_available(device.type)  # "meta" has no autocast
    if unet.conv_in.weight.dtype != torch.float32 or not known:
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
