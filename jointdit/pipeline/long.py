"""Clips longer than the model's window. `make_long` is the method `long` of `JointDiTPipeline`, which is its `pipe`.

The clip is windows that overlap in time. A few neighbours are denoised together, their estimates blended; the next few
begin with the end of those before, which is known to them at every noise level. So only a few windows are ever in
memory, and what is finished leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
import torch

from ..errors import InputError
from ..latents import JointLatents, Windows
from ..media import Clip, Piece
from ..media.image import Fit
from .encode import Conditions, Picture, draw_picture_noise
from .pieces import DecodedSound, DecodedVideo, EncodedVideo, GivenSound, GivenVideo, KeptFrames, LongClip
from .preview import FastDecoder
from .settings import SamplingSettings
from .windowed import (
    ONE_WINDOW,
    TOGETHER,
    GroupConditions,
    GroupSampler,
    LongPlan,
    part_of_sound,
    plan_long,
)

JointDiTPipeline = Any  # the pipeline imports this module; its class is not known here
Callback = Callable[[str, int, int], None]
Preview = Callable[[np.ndarray], None]
Anchor = Literal["first", "latest"]


@dataclass(frozen=True)
class LongOptions:
    """What all windows of a long clip have in common; the fields are those of `JointDiTPipeline.__call__`.

    anchor: see `make_long`.
    """

    prompt: str | None
    negative_prompt: str | None
    settings: SamplingSettings
    fit: Fit
    motion_bucket: float | None
    noise_augmentation: float | None
    decode_chunk_size: int | None
    generator: torch.Generator | None
    callback: Callback | None
    preview: Preview | None
    anchor: Anchor


def make_long(
    pipe: JointDiTPipeline,
    image: Picture | None = None,
    prompt: str | None = None,
    negative_prompt: str | None = None,
    *,
    video: Clip | GivenVideo | None = None,
    audio: tuple[np.ndarray, int] | None = None,
    frames: int | None = None,
    fps: Fraction | float | str | None = None,
    height: int | None = None,
    width: int | None = None,
    window: int | None = None,
    overlap: int | None = None,
    together: int = TOGETHER,
    anchor: Anchor = "first",
    settings: SamplingSettings | None = None,
    fit: Fit = "cover",
    motion_bucket: float | None = None,
    noise_augmentation: float | None = None,
    decode_chunk_size: int | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
    preview: Preview | None = None,
) -> LongClip:
    """A clip of any length, which is made while it is saved or read (`LongClip`).

    A picture becomes as many frames as are asked for; each window goes on from the end of the one before. A video gets
    its sound over its whole length, or over that of `frames`. A sound is kept over its whole length, or over that of
    `frames`, and the picture moves to it.

    window: frames of a window; those that the model was made for where None.
    overlap: frames that two windows share at least; two fifths of a window where None.
    together: windows of a given video that are denoised at once; more of them blend more seams, in more memory. (What
    is generated from a picture goes on window by window.)
    anchor: the picture that each window of a generated clip is told to start from: the "first", which is the one that
    was given, and from which the clip does not drift away, or the "latest", the frame at the window's start.
    preview: of each window, or of the few that are denoised at once, while they are made.
    The rest is as in `JointDiTPipeline.__call__`, which makes the clip if one window is enough.
    Raises InputError where the call would, and for an overlap that does not fit the window.
    """
    if anchor not in get_args(Anchor):
        raise InputError(f"anchor {anchor!r}: give one of {', '.join(get_args(Anchor))}")
    if image is not None and video is not None:
        raise InputError("both a picture and a video are given; the video's first frame is the picture")
    given = GivenVideo.of(video) if isinstance(video, Clip) else video
    settings = settings or SamplingSettings()
    plan = plan_long(
        pipe,
        video=given,
        audio=audio,
        frames=frames,
        fps=fps,
        height=height,
        width=width,
        window=window,
        overlap=overlap,
        together=together,
    )
    if plan.windows is None:
        return LongClip.of(
            pipe(
                image,
                prompt,
                negative_prompt,
                video=None if given is None else given.in_memory(),
                audio=audio,
                frames=frames,
                fps=fps,
                height=height,
                width=width,
                settings=settings,
                fit=fit,
                motion_bucket=motion_bucket,
                noise_augmentation=noise_augmentation,
                decode_chunk_size=decode_chunk_size,
                generator=generator,
                callback=callback,
                preview=preview,
            )
        )
    options = LongOptions(
        prompt,
        negative_prompt,
        settings,
        fit,
        motion_bucket,
        noise_augmentation,
        decode_chunk_size,
        generator,
        callback,
        preview,
        anchor,
    )
    rate = pipe.layout.sample_rate
    if given is not None:
        return LongClip(plan.kept, 1, rate, _sounded(pipe, given, plan, plan.windows, options))
    if image is None:
        raise InputError("no picture is given; give one, or a video")
    channels, rate = (1, rate) if audio is None else (len(audio[0]), audio[1])
    return LongClip(plan.kept, channels, rate, _moved(pipe, image, audio, plan, plan.windows, options))


class _Watch:
    """Tells of each step, and what the group looks like by then once a picture is known."""

    def __init__(self, pipe: JointDiTPipeline, options: LongOptions) -> None:
        self._pipe, self._options = pipe, options
        self._look: FastDecoder | None = None

    def show(self, conditions: Conditions, picture: Picture) -> None:
        """From here on in the colours of this picture, that of the first window of `conditions`."""
        if self._options.preview:
            self._look = FastDecoder.of(self._pipe, conditions, picture, self._options.fit)

    def __call__(self, done: int, total: int, estimate: JointLatents | None) -> None:
        if self._options.callback:
            self._options.callback("sample", done, total)
        if self._options.preview and self._look and estimate is not None:
            self._options.preview(self._look(estimate.video[0]))


def _run(
    pipe: JointDiTPipeline, plan: LongPlan, windows: Windows, options: LongOptions, hold: str | None
) -> tuple[GroupConditions, GroupSampler, _Watch]:
    """What conditions, what samples and what tells of the groups. The noise on the pictures is drawn first."""
    conditions = GroupConditions(
        pipe,
        options.prompt,
        options.negative_prompt,
        options.generator,
        fit=options.fit,
        motion_bucket=options.motion_bucket,
        noise_augmentation=options.noise_augmentation,
    )
    first = plan.groups[0]
    draw_picture_noise(first.shape, len(first.starts), options.generator)  # which `conditions` draws again
    watch = _Watch(pipe, options)
    return conditions, GroupSampler(pipe, windows, options.settings, hold, options.generator, watch), watch


def _sounded(
    pipe: JointDiTPipeline, given: GivenVideo, plan: LongPlan, windows: Windows, options: LongOptions
) -> Iterator[Piece]:
    """A given video with its sound."""
    rate, rows = pipe.layout.sample_rate, pipe.memory.max_batch or ONE_WINDOW
    conditions, sampler, watch = _run(pipe, plan, windows, options, "video")
    encoded = EncodedVideo(pipe, given.at(plan.clip, options.fit))
    sound = DecodedSound(pipe, windows, plan.kept.samples(rate))
    frames = KeptFrames(given, plan.kept.frames, rate)
    for group in plan.groups:
        pictures, latents = encoded.of(group)
        of_group = conditions.of(group, pictures, latents)
        watch.show(of_group, pictures[0])
        made = sampler.sample(group, of_group, rows)
        for _, place in group.places():
            audio = sound.add(made.audio[:, :, place])
            yield Piece(frames.beside(audio.shape[1], sound.finished), audio)


def _moved(
    pipe: JointDiTPipeline,
    image: Picture,
    audio: tuple[np.ndarray, int] | None,
    plan: LongPlan,
    windows: Windows,
    options: LongOptions,
) -> Iterator[Piece]:
    """A picture that moves on from window to window, to a given sound or with its own."""
    clip, rows = plan.clip, pipe.memory.max_batch or ONE_WINDOW
    conditions, sampler, watch = _run(pipe, plan, windows, options, None if audio is None else "audio")
    sound = DecodedSound(pipe, windows, clip.samples(pipe.layout.sample_rate))
    given = None if audio is None else GivenSound(*audio, clip)
    decoded = DecodedVideo(pipe, options.decode_chunk_size)
    shown = np.zeros((0, clip.height, clip.width, 3), np.uint8)  # of the window before
    from_first = conditions.of(plan.groups[0], [image])
    watch.show(from_first, image)
    for group in plan.groups:
        start = group.starts[0].frame
        behind = 0 if sampler.before is None else start - sampler.before[0].starts[0].frame
        known = max(0, len(shown) - behind)
        of_group = from_first
        if known and options.anchor == "latest":
            of_group = conditions.of(group, [shown[behind]])
        if audio is not None:
            heard = pipe.encode_audio(*part_of_sound(audio, group, pipe.layout.audio_rate), group.shape)
            of_group = replace(of_group, audio_latents=heard)
        made = sampler.sample(group, of_group, rows)
        new = decoded.add(made.video[:, known:])
        shown = np.concatenate([shown[behind:], new])
        beside = sound.add(made.audio) if given is None else given.beside(len(new))
        yield Piece(new, beside)
