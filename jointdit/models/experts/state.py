"""What one UNet carries from stage to stage."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from diffusers import AudioLDM2UNet2DConditionModel, UNetSpatioTemporalConditionModel
from einops import rearrange
from torch import Tensor, nn

Call = Callable[..., Any]
UNet = UNetSpatioTemporalConditionModel | AudioLDM2UNet2DConditionModel


def call_directly(function: Call, *args: Any, **inputs: Any) -> Any:
    """The plain way to call a block; gradient checkpointing is the other one."""
    return function(*args, **inputs)


@dataclass(frozen=True)
class ExpertState:
    """A UNet between two of its blocks.

    hidden: [R, C, h, w], R = batch rows, or batch * frames rows for video.
    skips: the stack for the up blocks, newest last.    embedding: [R, E], time embedding.
    inputs: keyword arguments of blocks with cross-attention, each [R, ...] or [B, F].
    rows: rows of R per sample (the frames of a video, 1 for audio).    level: downsamplings so far.
    """

    hidden: Tensor
    skips: tuple[Tensor, ...]
    embedding: Tensor
    inputs: Mapping[str, Tensor]
    rows: int = 1
    level: int = 0

    def select(self, index: Tensor) -> ExpertState:
        """The state of the samples `index` [P] (repeats allowed), in that order."""

        def take(tensor: Tensor) -> Tensor:
            batch = self.hidden.shape[0] // self.rows
            if tensor.shape[0] == batch:
                return tensor.index_select(0, index)
            return rearrange(
                rearrange(tensor, "(b r) ... -> b r ...", r=self.rows).index_select(0, index), "b r ... -> (b r) ..."
            )

        return replace(
            self,
            hidden=take(self.hidden),
            skips=tuple(take(skip) for skip in self.skips),
            embedding=take(self.embedding),
            inputs={name: take(value) for name, value in self.inputs.items()},
        )


def expand_timestep(timestep: Tensor | float, batch: int, device: torch.device) -> Tensor:
    """A scalar or [B] timestep as [B] on `device`, as in the forward of both UNets."""
    timestep = torch.as_tensor(timestep, device=device)
    return timestep.reshape(-1).expand(batch)


def run_inner_block(unet: UNet, state: ExpertState, stage: int, call: Call) -> ExpertState:
    """Stage 0 .. n of either UNet: a down block, whose downsampler (if any) raises the level, or mid as the last."""
    if stage == len(unet.down_blocks):
        block = unet.mid_block
        return replace(state, hidden=call(block, state.hidden, temb=state.embedding, **block_inputs(block, state)))
    return run_down_block(unet.down_blocks[stage], state, call)


def run_down_block(block: nn.Module, state: ExpertState, call: Call) -> ExpertState:
    """A down block, or layers of one."""
    hidden, skips = call(block, hidden_states=state.hidden, temb=state.embedding, **block_inputs(block, state))
    deeper = block.downsamplers is not None
    return replace(state, hidden=hidden, skips=state.skips + skips, level=state.level + deeper)


def run_up_blocks(unet: UNet, state: ExpertState, blocks: Iterable[nn.Module], call: Call) -> ExpertState:
    """Some of Out's up blocks of either UNet, or layers of one, with their skips.

    `upsample_size` matters only where a side is no multiple of the overall factor; elsewhere it is what the upsampler
    would compute by itself, and the UNets leave it out, which selects another interpolation mode of equal result.
    """
    hidden, skips = state.hidden, state.skips
    factor = 2**unet.num_upsamplers
    odd = any(side % factor for side in skips[0].shape[-2:])
    for block in blocks:
        count = len(cast(nn.ModuleList, block.resnets))
        used, skips = skips[-count:], skips[:-count]
        hidden = call(
            block,
            hidden_states=hidden,
            temb=state.embedding,
            res_hidden_states_tuple=used,
            upsample_size=skips[-1].shape[2:] if odd and skips else None,
            **block_inputs(block, state),
        )
    return replace(state, hidden=hidden, skips=skips)


def run_end(unet: UNet, state: ExpertState) -> Tensor:
    """After the up blocks: norm, activation and the last convolution."""
    assert unet.conv_norm_out is not None and unet.conv_act is not None  # only None without a number of groups
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(state.hidden)))


def layers_of(block: nn.Module, layers: slice, sampler: bool) -> list[nn.Module]:
    """A down or up block that runs some of its layers: what its own forward does for them, bit for bit. None where
    nothing is left to run.

    sampler: whether the down- or upsampler, if any, runs after them. Layers, weights and hooks are the block's own.
    """
    modules = dict(block.named_children())
    samplers = modules.keys() & {"downsamplers", "upsamplers"}
    count = len(cast(nn.ModuleList, modules["resnets"]))
    chosen = range(count)[layers]
    if len(chosen) == count and (sampler or not samplers):
        return [block]
    if not chosen and not (sampler and samplers):
        return []
    for name in modules.keys() & {"resnets", "attentions"}:
        modules[name] = nn.ModuleList(list(cast(nn.ModuleList, modules[name]))[layers])
    part = copy.copy(block)
    part._modules = cast("dict[str, nn.Module | None]", modules)
    if not sampler:
        for name in samplers:
            setattr(part, name, None)
    return [part]


def block_inputs(block: nn.Module, state: ExpertState) -> dict[str, Tensor]:
    """The keyword arguments that this block takes: all with cross-attention, else those that every block has."""
    if getattr(block, "has_cross_attention", False):
        return dict(state.inputs)
    return {name: value for name, value in state.inputs.items() if name == "image_only_indicator"}
