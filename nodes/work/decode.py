"""Latents to pictures and to sound. Each clip of a batch is an item of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import comfy.model_management
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ...jointdit.errors import InputError
from ...jointdit.latents import ClipShape, LatentLayout, Windows
from ...jointdit.pipeline.pieces import DecodedSound, DecodedVideo
from ..sockets import CLIP_KEY, PLAN_KEY, samples_of
from .memory import ManagedModel
from .progress import Progress

logger = logging.getLogger(__name__)
SOUND = ("audio_vae", "vocoder")


def decode_video(model: ManagedModel, video: Mapping[str, Any], chunk_size: int, overlap: int) -> list[Tensor]:
    """An IMAGE of each clip."""
    if overlap >= chunk_size:
        raise InputError(f"overlap is {overlap}, but must be less than chunk_size, {chunk_size}")
    samples = samples_of(video, "video", model.pipe.layout.video_channels, "h, w")
    scaled = samples.float() * model.pipe.video_vae.config.scaling_factor
    latents = rearrange(scaled, "(b f) c h w -> b f c h w", f=_frames_of_a_clip(video))
    plan = video.get(PLAN_KEY)
    windows = plan.windows if plan and plan.windows.frames == latents.shape[1] else None
    while True:
        try:
            frames = list(_decode(model, latents, windows, chunk_size, overlap))
            break
        except comfy.model_management.OOM_EXCEPTION:
            if chunk_size == 1:
                raise
            chunk_size //= 2
            logger.warning("JointDiT: not enough memory to decode so many frames at once; trying %d", chunk_size)
            overlap = min(overlap, chunk_size - 1)
        comfy.model_management.soft_empty_cache()
    return [torch.from_numpy(clip).float() / 255 for clip in frames]


def _decode(
    model: ManagedModel, latents: Tensor, windows: Windows | None, chunk_size: int, overlap: int
) -> Iterable[np.ndarray]:
    clips, frames, _, height, width = latents.shape
    memory = model.decode_memory(height, width, min(chunk_size, frames))
    progress = model.start(["video_vae"], clips * frames, memory)
    with model.interruptible(["video_vae"], progress):
        if windows is None:
            return model.pipe.decode_video(latents.to(model.pipe.device), chunk_size, overlap, progress)
        return [_decode_windows(model, clip, windows, chunk_size, overlap, progress) for clip in latents.split(1)]


def _decode_windows(
    model: ManagedModel, latents: Tensor, windows: Windows, chunk_size: int, overlap: int, progress: Progress
) -> np.ndarray:
    """A clip [1, T, ...] of several windows: what each adds is decoded on from the end of the one before."""
    decoded, pieces, done = DecodedVideo(model.pipe, chunk_size, overlap), [], 0
    for place, _ in windows.places():
        pieces.append(decoded.add(latents[:, done : place.stop]))
        done = place.stop
        progress(done, latents.shape[1])
    return np.concatenate(pieces)


def _frames_of_a_clip(video: Mapping[str, Any]) -> int:
    """Of latents from elsewhere (VAE Encode, Load Latent, a part of a batch) all frames are one clip."""
    frames, shape = len(video["samples"]), video.get(CLIP_KEY)
    return frames if shape is None or frames % shape.frames else shape.frames


def decode_audio(model: ManagedModel, audio: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An AUDIO of each clip."""
    pipe, layout = model.pipe, model.pipe.layout
    samples = samples_of(audio, "audio", layout.audio_channels, "time, mel")
    plan = audio.get(PLAN_KEY)
    windows = plan.windows if plan and plan.windows.audio_latents == samples.shape[2] else None
    progress = model.start(SOUND, 1)
    with model.interruptible(SOUND, progress):
        if plan is None or windows is None:
            shape = audio.get(CLIP_KEY) or _whole(samples, layout)
            waveforms = list(pipe.decode_audio(samples.to(pipe.device), shape))
        else:
            length = plan.kept.samples(layout.sample_rate)
            waveforms = [_sound_of_windows(model, clip, windows, length, progress) for clip in samples.split(1)]
    progress(1, 1)
    rate = layout.sample_rate
    return [{"waveform": torch.from_numpy(each)[None], "sample_rate": rate} for each in waveforms]


def _sound_of_windows(
    model: ManagedModel, latents: Tensor, windows: Windows, samples: int, progress: Progress
) -> np.ndarray:
    """A sound [1, C, l, m] of several windows: each is decoded as the model knows it, and they run on into each other.
    Float32 [1, samples]."""
    sound, pieces = DecodedSound(model.pipe, windows, samples), []
    for number, (_, place) in enumerate(windows.places()):
        progress(number, len(windows.starts))
        pieces.append(sound.add(latents[:, :, place]))
    return np.concatenate(pieces, axis=1)


def _whole(samples: Tensor, layout: LatentLayout) -> ClipShape:
    """As long as the latents themselves: those that Save Latent kept know of no frames."""
    side = layout.video_factor
    return ClipShape(samples.shape[2], Fraction(layout.sample_rate, layout.hop * layout.mel_factor), side, side)
