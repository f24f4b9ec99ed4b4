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
from torch import Tensor

from ..diffusion.windows import Known
from ..errors import InputError
from ..latents import ClipShape, JointLatents, Windows
from ..media import Clip, Piece
from ..media.image import Fit
from .encode import Picture
from .pieces import DecodedSound, DecodedVideo, EncodedVideo, GivenSound, GivenVideo, KeptFrames, LongClip
from .settings import SamplingSettings, chosen
from .texts import encode_texts, heard

JointDiTPipeline = Any  # the pipeline imports this module; its class is not known here
Callback = Callable[[str, int, int], None]
Anchor = Literal["first", "latest"]
OVERLAP = Fraction(2, 5)  # of a window
ONE_WINDOW = 3  # rows of an evaluation: the guidance passes of one window
TOGETHER = 4  # windows of a given video that are denoised at once


@dataclass(frozen=True)
class LongOptions:
    """What all windows of a long clip have in common; the fields are those of `JointDiTPipeline.__call__`.

    together: windows that are denoised at once.    anchor: see `make_long`.
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
    together: int
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
    The rest is as in `JointDiTPipeline.__call__`, which makes the clip if one window is enough.
    Raises InputError where the call would, and for an overlap that does not fit the window.
    """
    if together < 1:
        raise InputError(f"together {together}: give at least 1 window")
    if anchor not in get_args(Anchor):
        raise InputError(f"anchor {anchor!r}: give one of {', '.join(get_args(Anchor))}")
    window = chosen(window, pipe.defaults.frames)
    one = pipe.shape(window, fps, height, width)
    given = GivenVideo.of(video) if isinstance(video, Clip) else video
    clip = replace(one, frames=chosen(frames, _frames_of(one, given, audio)))
    settings = settings or SamplingSettings()
    if clip.frames <= window:
        return LongClip.of(
            pipe(
                image,
                prompt,
                negative_prompt,
                video=None if given is None else _in_memory(given),
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
            )
        )
    windows = pipe.layout.windows(clip, window, chosen(overlap, max(1, round(window * OVERLAP))))
    options = LongOptions(
        heard(pipe, [prompt])[0],
        negative_prompt,
        settings,
        fit,
        motion_bucket,
        noise_augmentation,
        decode_chunk_size,
        generator,
        callback,
        together,
        anchor,
    )
    rate = pipe.layout.sample_rate
    if given is not None:
        if image is not None:
            raise InputError("both a picture and a video are given; the video's first frame is the picture")
        if audio is not None:
            raise InputError("both the video and the audio are given: nothing is left to sample; leave one out")
        there = _frames_of(clip, given, None)
        if clip.frames > there:
            raise InputError(
                f"the video lasts {float(given.shape.seconds):.2f} s, {there} frames; {clip.frames} are asked"
            )
        kept = replace(given.shape, frames=min(given.shape.frames, round(clip.seconds * given.shape.fps)))
        kept = given.shape if frames is None else kept
        return LongClip(kept, 1, rate, _sounded(pipe, given, kept, clip, windows, options))
    if image is None:
        raise InputError("no picture is given; give one, or a video")
    if audio is not None:
        there = audio[0].shape[1] / audio[1]
        if frames is not None and there + 1 / float(clip.fps) < clip.seconds:
            raise InputError(f"the sound lasts {there:.2f} s; {clip.frames} frames last {float(clip.seconds):.2f} s")
        return LongClip(clip, len(audio[0]), audio[1], _moved(pipe, image, audio, clip, windows, options))
    return LongClip(clip, 1, rate, _moved(pipe, image, None, clip, windows, options))


def _frames_of(one: ClipShape, given: GivenVideo | None, audio: tuple[np.ndarray, int] | None) -> int:
    """As many as what is given lasts, a begun one too; those of a window where nothing is."""
    if given is not None:
        exact = given.shape.seconds * one.fps
    elif audio is not None:
        exact = Fraction(audio[0].shape[1], audio[1]) * one.fps
    else:
        return one.frames
    return max(1, -int(-exact // 1))


def _in_memory(given: GivenVideo) -> Clip:
    return Clip(np.stack(list(given.frames())), given.shape.fps, np.zeros((1, 0), np.float32), 16000)


class _Progress:
    """Steps of all windows on one scale."""

    def __init__(self, pipe: JointDiTPipeline, windows: Windows, options: LongOptions, hold: Any) -> None:
        self.steps = pipe.grid(options.settings, hold).steps
        self.callback, self.total, self.done = options.callback, self.steps * len(windows.starts), 0
        self.report(0, 0)

    def report(self, windows: int, step: int) -> None:
        """So many windows are at this step."""
        if self.callback:
            self.callback("sample", self.done + windows * step, self.total)

    def finish(self, windows: int) -> None:
        """So many windows more are done."""
        self.done += windows * self.steps


class _Run:
    """Groups of windows in order, each of which begins with the end of the one before."""

    def __init__(self, pipe: JointDiTPipeline, windows: Windows, options: LongOptions, hold: Any) -> None:
        self.pipe, self.windows, self.options = pipe, windows, options
        self.progress = _Progress(pipe, windows, options, hold)
        self.before: tuple[Windows, JointLatents] | None = None
        self.texts = encode_texts(pipe, [options.prompt], [options.negative_prompt])

    def sample(
        self,
        group: Windows,
        pictures: list[Picture],
        video: Tensor | None = None,
        audio: Tensor | None = None,
    ) -> JointLatents:
        """Latents of a group [1, T, ...] on the host. pictures: one for each window.    video, audio: a given modality
        of the whole group."""
        pipe, options, count = self.pipe, self.options, len(group.starts)
        conditions = pipe.condition(
            pictures,
            [options.prompt] * count,
            [options.negative_prompt] * count,
            group.shape,
            options.generator,
            fit=options.fit,
            motion_bucket=options.motion_bucket,
            noise_augmentation=options.noise_augmentation,
            given_video=video is not None,
            texts=(self.texts[0].select([0] * count), self.texts[1].select([0] * count)),
        )
        conditions = replace(conditions, video_latents=video, audio_latents=audio)
        latents = pipe.sample(
            conditions,
            options.settings,
            generator=options.generator,
            max_batch=pipe.memory.max_batch or ONE_WINDOW,
            callback=lambda done, total, _: self.progress.report(count, done),
            windows=group,
            known=self._known(group),
        ).map(lambda part: part.cpu())
        self.progress.finish(count)
        self.before = group, latents
        return latents

    def _known(self, group: Windows) -> Known | None:
        if self.before is None:
            return None
        before, latents = self.before
        first, start = before.starts[0], group.starts[0]
        ends = latents.video[:, start.frame - first.frame :], latents.audio[:, :, start.audio - first.audio :]
        video = torch.nn.functional.pad(ends[0], (0, 0) * 3 + (0, group.frames - ends[0].shape[1]))
        audio = torch.nn.functional.pad(ends[1], (0, 0, 0, group.audio_latents - ends[1].shape[2]))
        return Known(
            JointLatents(video, audio),
            torch.arange(group.frames) < ends[0].shape[1],
            torch.arange(group.audio_latents) < ends[1].shape[2],
        )


def _sounded(
    pipe: JointDiTPipeline,
    given: GivenVideo,
    kept: ClipShape,
    clip: ClipShape,
    windows: Windows,
    options: LongOptions,
) -> Iterator[Piece]:
    """A given video with its sound."""
    rate = pipe.layout.sample_rate
    run = _Run(pipe, windows, options, "video")
    encoded = EncodedVideo(pipe, given.at(clip, options.fit))
    sound = DecodedSound(pipe, windows, kept.samples(rate))
    frames = KeptFrames(given, kept.frames, rate)
    for group in windows.groups(options.together):
        first = group.starts[0]
        seen, latents = encoded.take(first.frame, first.frame + group.frames)
        pictures: list[Picture] = [seen[start.frame - first.frame] for start in group.starts]
        made = run.sample(group, pictures, video=latents)
        for _, place in group.places():
            audio = sound.add(made.audio[:, :, place])
            yield Piece(frames.beside(audio.shape[1], sound.finished), audio)


def _moved(
    pipe: JointDiTPipeline,
    image: Picture,
    audio: tuple[np.ndarray, int] | None,
    clip: ClipShape,
    windows: Windows,
    options: LongOptions,
) -> Iterator[Piece]:
    """A picture that moves on from window to window, to a given sound or with its own."""
    run = _Run(pipe, windows, options, None if audio is None else "audio")
    sound = DecodedSound(pipe, windows, clip.samples(pipe.layout.sample_rate))
    given = None if audio is None else GivenSound(*audio, clip)
    decoded = DecodedVideo(pipe, options.decode_chunk_size)
    shown = np.zeros((0, clip.height, clip.width, 3), np.uint8)  # of the window before
    for group in windows.groups(1):
        start = group.starts[0].frame
        behind = 0 if run.before is None else start - run.before[0].starts[0].frame
        known = max(0, len(shown) - behind)
        picture = shown[behind] if known and options.anchor == "latest" else image
        heard = None
        if audio is not None:
            heard = pipe.encode_audio(*_part(audio, group, pipe.layout.audio_rate), group.shape)
        made = run.sample(group, [picture], audio=heard)
        new = decoded.add(made.video[:, known:])
        shown = np.concatenate([shown[behind:], new])
        beside = sound.add(made.audio) if given is None else given.beside(len(new))
        yield Piece(new, beside)


def _part(audio: tuple[np.ndarray, int], group: Windows, latents_per_second: Fraction) -> tuple[np.ndarray, int]:
    """A given sound from the start of a window on."""
    samples, rate = audio
    start = round(group.starts[0].audio / latents_per_second * rate)
    return samples[:, start : start + round(group.shape.seconds * rate) + 1], rate
