"""Pictures, texts, and what is given of a clip to conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from comfy_api.v0_0_2 import Input
from torch import Tensor

from ...jointdit.errors import InputError
from ...jointdit.latents import ClipShape
from ...jointdit.media import fit_image
from ...jointdit.media.image import Fit
from ...jointdit.pipeline import Conditions, GivenVideo
from ...jointdit.pipeline.pieces import EncodedVideo
from ...jointdit.pipeline.windowed import GroupConditions, LongPlan, part_of_sound, plan_long
from ..shape import check_frames, clip_shape
from ..sockets import PreparedClips, PreparedLong, pixels_of, sound_of
from .given import given_video
from .memory import CONDITIONING, ManagedModel, ManagedPipeline

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class _Given:
    """What a clip is made from, as the library takes it. One of pictures and video is there."""

    pictures: list[np.ndarray]
    video: GivenVideo | None
    audio: tuple[np.ndarray, int] | None
    prompt: str
    negative_prompt: str
    seed: int
    options: Mapping[str, Any]  # of `GroupConditions`, and of `JointDiTPipeline.condition`

    @property
    def fit(self) -> Fit:
        return self.options["fit"]


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
    window: int = 0,
    overlap: int = 0,
) -> tuple[PreparedClips | PreparedLong, float]:
    """The conditions of the clips, and their frames a second."""
    if image is None and video is None:
        raise InputError("neither a picture nor a video has arrived; connect image or video")
    check_frames(frames)
    given = _Given(
        [] if image is None else list(pixels_of(image)),
        None if video is None else given_video(video),
        None if audio is None else sound_of(audio),
        prompt.strip(),
        negative_prompt.strip(),
        picture_seed,
        {
            "fit": fit,
            "motion_bucket": motion_bucket or None,
            "noise_augmentation": None if noise_augmentation < 0 else noise_augmentation,
        },
    )
    plan = plan_long(
        model.pipe,
        video=given.video,
        audio=given.audio,
        frames=frames or None,
        fps=fps or None,
        height=height or None,
        width=width or None,
        window=window or None,
        overlap=overlap or None,
    )
    progress = model.start(CONDITIONING if audio is None else (*CONDITIONING, "audio_vae"), 3)
    with model.interruptible(CONDITIONING, progress):
        if plan.windows is not None:
            return _long(model.pipe, given, plan, progress), float(plan.clip.fps)
        shape = clip_shape(model.pipe, width, height, frames, fps)
        prepared = _short(model.pipe, given, shape, not frames, progress)
        return prepared, float(prepared.conditions.shape.fps)


def _short(pipe: ManagedPipeline, given: _Given, shape: ClipShape, fewer: bool, report: Report) -> PreparedClips:
    """Clips of one window. fewer: a shorter video makes a shorter clip."""
    pictures, video_latents, audio_latents = given.pictures, None, None
    if given.video is not None:
        first, shape, video_latents = pipe.encode_video(given.video.in_memory(), shape, fewer, given.fit)
        pictures = [first]
    count = len(pictures)
    if given.audio is not None:
        audio_latents = pipe.encode_audio(*given.audio, shape).expand(count, -1, -1, -1)
    report(1, 3)
    conditions = pipe.condition(
        pictures,
        [given.prompt] * count,
        [given.negative_prompt] * count,
        shape,
        generator=torch.Generator().manual_seed(given.seed),
        given_video=given.video is not None,
        **given.options,
    )
    report(2, 3)
    small = _thumbnails(pipe, pictures, shape, given.fit)
    report(3, 3)
    return PreparedClips(replace(conditions, video_latents=video_latents, audio_latents=audio_latents), small)


def _long(pipe: ManagedPipeline, given: _Given, plan: LongPlan, report: Report) -> PreparedLong:
    """Clips of several windows, each as if it were alone."""
    source = GroupConditions(
        pipe, given.prompt, given.negative_prompt, torch.Generator().manual_seed(given.seed), **given.options
    )
    if given.video is not None:
        return _long_video(pipe, given.video, given.fit, plan, source, report)
    clips: list[tuple[Conditions, ...]] = []
    for picture in given.pictures:
        one = source.of(plan.groups[0], [picture])
        groups = [one] * len(plan.groups)
        if given.audio is not None:
            parts = [part_of_sound(given.audio, group, pipe.layout.audio_rate) for group in plan.groups]
            groups = [replace(one, audio_latents=pipe.encode_audio(*part, one.shape)) for part in parts]
        clips.append(tuple(groups))
        report(len(clips), len(given.pictures))
    return PreparedLong(plan, tuple(clips), _thumbnails(pipe, given.pictures, plan.clip, given.fit))


def _long_video(
    pipe: ManagedPipeline, video: GivenVideo, fit: Fit, plan: LongPlan, source: GroupConditions, report: Report
) -> PreparedLong:
    """A video that is read and encoded group by group; only its latents stay."""
    encoded = EncodedVideo(pipe, video.at(plan.clip, fit))
    groups: list[Conditions] = []
    first: list[np.ndarray] = []
    for group in plan.groups:
        pictures, latents = encoded.of(group)
        first = first or pictures[:1]
        groups.append(source.of(group, pictures, video=latents))
        report(len(groups), len(plan.groups))
    return PreparedLong(plan, (tuple(groups),), _thumbnails(pipe, first, plan.clip, fit))


def _thumbnails(pipe: ManagedPipeline, pictures: list[np.ndarray], shape: ClipShape, fit: Fit) -> Tensor:
    """As small as their latents, float [B, h, w, 3] in 0..1."""
    factor = pipe.layout.video_factor
    small = [fit_image(picture, shape.height // factor, shape.width // factor, fit) for picture in pictures]
    return torch.stack([torch.from_numpy(each) for each in small]) / 255
