"""Latents to frames and to sound. The functions are methods of `JointDiTPipeline`, which is their `pipe`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..latents import ClipShape
from ..media import Clip, fit_audio
from .components import JointDiTComponents
from .settings import chosen

LOUDEST = 0.97  # leaves room for what AAC adds


@torch.no_grad()
def decode_video(
    pipe: JointDiTComponents,
    latents: Tensor,
    chunk_size: int | None = None,
    overlap: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Scaled latents [B, F, C, h, w] -> uint8 [B, F, H, W, 3].

    chunk_size: frames that are decoded at once; the memory settings' where None.
    overlap: frames that two neighbouring chunks share, blended.
    progress: called with (frames done, frames in all) after each chunk.
    """
    with pipe.using("video_vae"):
        chunk_size = chosen(chunk_size, pipe.memory.decode_chunk)
        return pipe.video_codec.decode_video(latents, chunk_size, overlap, progress).numpy()


@torch.no_grad()
def decode_audio(pipe: JointDiTComponents, latents: Tensor, shape: ClipShape) -> np.ndarray:
    """Scaled latents [B, C, l, m] -> float32 [B, 1, samples], exactly as long as the frames.

    A sound whose peak would clip is made quieter as a whole.
    """
    samples = shape.samples(pipe.layout.sample_rate)
    with pipe.using("audio_vae", "vocoder"):
        waveform = pipe.audio_codec.decode_audio(latents, samples)
    loudest = waveform.abs().amax(dim=1, keepdim=True)
    return (waveform * (LOUDEST / loudest.clamp(min=LOUDEST)))[:, None].cpu().numpy()


def with_sound(video: Clip, shape: ClipShape, sound: np.ndarray, sample_rate: int) -> Clip:
    """The beginning of a video, as it is, with a sound, float32 [channels, samples], of the shape's duration."""
    frames = video.frames[: max(1, round(shape.seconds * video.fps))]
    samples = round(len(frames) / video.fps * sample_rate)
    return Clip(frames, video.fps, fit_audio(sound, samples), sample_rate)
