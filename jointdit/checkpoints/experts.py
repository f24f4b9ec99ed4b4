"""The two pretrained experts as people have them: diffusers folders, Hub names, and ComfyUI's single file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from accelerate import init_empty_weights
from diffusers import AudioLDM2UNet2DConditionModel

from ..errors import InputError
from .components import Expert, published_folders
from .folders import load_component, resolve
from .single_file import load_single_file

# Attention heads of AudioLDM2's UNet: 8 everywhere, as its published config has it, or a head for 32 channels, as its
# authors' code has it. The weights fit both.
AudioHeads = Literal["published", "authors"]
CHANNELS_PER_HEAD = 32


def load_video_expert(
    source: str | os.PathLike[str],
    dtype: torch.dtype = torch.float32,
    local_files_only: bool = True,
    frames: int | None = None,
) -> dict[str, Any]:
    """Stable Video Diffusion's components from a folder in diffusers' layout, a Hub name or a single file.

    frames: how many a single file was made for, where its name does not tell (`single_file.load_single_file`).
    """
    if Path(source).suffix == ".safetensors":
        return load_single_file(Path(source), dtype, frames)
    return _load_folders(resolve(source, local_files_only), "video", dtype)


def load_audio_expert(
    source: str | os.PathLike[str],
    dtype: torch.dtype = torch.float32,
    local_files_only: bool = True,
    heads: AudioHeads = "published",
) -> dict[str, Any]:
    """AudioLDM2's components, also of its large and music variants: a folder in diffusers' layout or a Hub name."""
    if heads not in get_args(AudioHeads):
        raise InputError(f"audio heads {heads!r}: give one of {', '.join(get_args(AudioHeads))}")
    components = _load_folders(resolve(source, local_files_only), "audio", dtype)
    if heads == "authors":
        components["audio_unet"] = with_authors_heads(components["audio_unet"])
    return components


def with_authors_heads(unet: AudioLDM2UNet2DConditionModel) -> AudioLDM2UNet2DConditionModel:
    """The same weights with a head for every 32 channels."""
    heads = [channels // CHANNELS_PER_HEAD for channels in unet.config["block_out_channels"]]
    with init_empty_weights(include_buffers=False):
        made = AudioLDM2UNet2DConditionModel.from_config(unet.config, attention_head_dim=heads)
    other = cast(AudioLDM2UNet2DConditionModel, made)
    other.load_state_dict(unet.state_dict(), assign=True)
    return other.eval()


def _load_folders(folder: Path, expert: Expert, dtype: torch.dtype) -> dict[str, Any]:
    if all((folder / name).is_dir() for name in ("video_unet", "audio_unet")):
        raise InputError(
            f"{folder}: a whole JointDiT model, not an expert; give it as the model, with joint = identity for Joint "
            "Blocks that have learned nothing"
        )
    # AudioLDM2's published index names GPT2Model, which transformers 5 cannot continue; the table's GPT2LMHeadModel has
    # the same weights and hidden states.
    return {
        each.name: load_component(each.load_class(each.names[-1]), folder / part, dtype)
        for part, each in published_folders(expert).items()
    }
