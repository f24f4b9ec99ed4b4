"""Latents to pictures and to sound. Each clip of a batch is an item of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import comfy.model_management
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ...jointdit.errors import InputError
from ...jointdit.latents import ClipShape, LatentLayout
from ..sockets import CLIP_KEY, samples_of
from .memory import ManagedModel

logger = logging.getLogger(__name__)


def decode_video(model: ManagedModel, video: Mapping[str, Any], chunk_size: int, overlap: int) -> list[Tensor]:
    if overlap >= chunk_size:
        raise InputError(f"overlap is {overlap}, but must be less than chunk_size, {chunk_size}")
    samples = samples_of(video, "video", model.pipe.layout.video_channels, "h, w")
    scaled = samples.float() * model.pipe.video_vae.config.scaling_factor
    latents = rearrange(scaled, "(b f) c h w -> b f c h w", f=_frames_of_a_clip(video))
    while True:
        try:
            frames = _decode(model, latents, chunk_size, overlap)
            break
        except comfy.model_management.OOM_EXCEPTION:
            if chunk_size == 1:
                raise
            chunk_size //= 2
            logger.warning("JointDiT: not enough memory to decode so many frames at once; trying %d", chunk_size)
            overlap = min(overlap, chunk_size - 1)
        comfy.model_management.soft_empty_cache()
    return [torch.from_numpy(clip).float() / 255 for clip in frames]


def _decode(model: ManagedModel, latents: Tensor, chunk_size: int, overlap: int) -> np.ndarray:
    clips, frames, _, height, width = latents.shape
    memory = model.decode_memory(height, width, min(chunk_size, frames))
    progress = model.start(["video_vae"], clips * frames, memory)
    with model.interruptible(["video_vae"]):
        return model.pipe.decode_video(latents.to(model.pipe.device), chunk_size, overlap, progress)


def _frames_of_a_clip(video: Mapping[str, Any]) -> int:
    """Of latents from elsewhere (VAE Encode, Load Latent, a part of a batch) all frames are one clip."""
    frames, shape = len(video["samples"]), video.get(CLIP_KEY)
    return frames if shape is None or frames % shape.frames else shape.frames


def decode_audio(model: ManagedModel, audio: Mapping[str, Any]) -> list[dict[str, Any]]:
    pipe, layout = model.pipe, model.pipe.layout
    samples = samples_of(audio, "audio", layout.audio_channels, "time, mel")
    progress = model.start(["audio_vae", "vocoder"], 1)
    shape = audio.get(CLIP_KEY) or _whole(samples, layout)
    with model.interruptible(["audio_vae", "vocoder"]):
        waveforms = pipe.decode_audio(samples.to(pipe.device), shape)
    progress(1, 1)
    rate = layout.sample_rate
    return [{"waveform": torch.from_numpy(each)[None], "sample_rate": rate} for each in waveforms]


def _whole(samples: Tensor, layout: LatentLayout) -> ClipShape:
    """As long as the latents themselves: those that Save Latent kept know of no frames."""
    side = layout.video_factor
    return ClipShape(samples.shape[2], Fraction(layout.sample_rate, layout.hop * layout.mel_factor), side, side)
