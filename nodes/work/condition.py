"""Pictures, texts, and what is given of a clip to conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from comfy_api.latest import Input
from torch import Tensor

from ...jointdit.errors import InputError
from ...jointdit.media import Clip, fit_image
from ...jointdit.media.image import Fit
from ...jointdit.pipeline.encode import MAX_SECONDS
from ..shape import clip_shape
from ..sockets import PreparedClips, pixels_of, sound_of
from .memory import CONDITIONING, ManagedModel


def condition(
    model: ManagedModel,
    prompt: str,
    negative_prompt: str,
    width: int,
    height: int,
    frames: int,
    fps: float,
    fit: Fit,
    motion_bucket: int,
    noise_augmentation: float,
    picture_seed: int,
    image: Tensor | None = None,
    video: Input.Video | None = None,
    audio: Mapping[str, Any] | None = None,
) -> tuple[PreparedClips, float]:
    """The conditions of the clips, and their frames a second."""
    pipe, video_latents, audio_latents = model.pipe, None, None
    shape = clip_shape(pipe, width, height, frames, fps)
    progress = model.start(CONDITIONING if audio is None else (*CONDITIONING, "audio_vae"), 3)
    if video is not None:
        first, shape, video_latents = pipe.encode_video(_clip(video), shape, not frames, fit)
        pictures = [first]
    elif image is not None:
        pictures = list(pixels_of(image))
    else:
        raise InputError("neither a picture nor a video has arrived; connect image or video")
    count = len(pictures)
    if audio is not None:
        audio_latents = pipe.encode_audio(*sound_of(audio), shape).expand(count, -1, -1, -1)
    progress(1, 3)
    with model.interruptible(CONDITIONING):
        conditions = pipe.condition(
            pictures,
            [prompt.strip()] * count,
            [negative_prompt.strip()] * count,
            shape,
            generator=torch.Generator().manual_seed(picture_seed),
            fit=fit,
            motion_bucket=motion_bucket or None,
            noise_augmentation=None if noise_augmentation < 0 else noise_augmentation,
            given_video=video is not None,
        )
    conditions = replace(conditions, video_latents=video_latents, audio_latents=audio_latents)
    progress(2, 3)
    factor = pipe.layout.video_factor
    small = [fit_image(picture, shape.height // factor, shape.width // factor, fit) for picture in pictures]
    progress(3, 3)
    thumbnails = torch.stack([torch.from_numpy(each) for each in small]) / 255
    return PreparedClips(conditions, thumbnails), float(shape.fps)


def _clip(video: Input.Video) -> Clip:
    if (seconds := video.get_duration()) > MAX_SECONDS:
        raise InputError(f"the video lasts {seconds:.0f} s, but may last {MAX_SECONDS} at most; cut it with Trim Video")
    parts = video.get_components()
    without_sound = np.zeros((1, 0), np.float32)
    return Clip(pixels_of(parts.images), parts.frame_rate, without_sound, sample_rate=16000)
