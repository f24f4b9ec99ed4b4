"""A long clip group by group: a few windows that overlap in time are denoised together, and each group begins with the
end of the one before. `long` and the nodes are made of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..diffusion.windows import Known
from ..errors import InputError
from ..latents import ClipShape, JointLatents, Windows
from ..media.image import Fit
from .encode import Conditions, Picture, encode_texts
from .pieces import GivenVideo
from .settings import SamplingSettings, chosen

JointDiTPipeline = Any  # the pipeline imports this module; its class is not known here
OVERLAP = Fraction(2, 5)  # of a window
ONE_WINDOW = 3  # rows of an evaluation: the guidance passes of one window
TOGETHER = 4  # windows of a given video that are denoised at once


@dataclass(frozen=True)
class LongPlan:
    """How a clip is made.

    clip: as the model makes it.    windows: None where it is made at once.
    together: windows that are denoised at once.
    kept: what comes out: the frames of a given video, as far as they get a sound, or the clip.
    """

    clip: ClipShape
    windows: Windows | None
    together: int
    kept: ClipShape

    @property
    def groups(self) -> list[Windows]:
        """The windows that are denoised together, in order."""
        return [] if self.windows is None else self.windows.groups(self.together)


def plan_long(
    pipe: JointDiTPipeline,
    *,
    video: GivenVideo | None = None,
    audio: tuple[np.ndarray, int] | None = None,
    frames: int | None = None,
    fps: Fraction | float | str | None = None,
    height: int | None = None,
    width: int | None = None,
    window: int | None = None,
    overlap: int | None = None,
    together: int = TOGETHER,
) -> LongPlan:
    """The arguments are those of `JointDiTPipeline.long`. Raises InputError for what cannot be made."""
    if together < 1:
        raise InputError(f"together {together}: give at least 1 window")
    window = chosen(window, pipe.defaults.frames)
    one = pipe.shape(min(window, chosen(frames, window)), fps, height, width)
    clip = replace(one, frames=chosen(frames, _frames_of(one, video, audio)))
    if clip.frames <= window:
        return LongPlan(clip, None, 1, clip)
    if video is not None and audio is not None:
        raise InputError("both the video and the audio are given: nothing is left to sample; leave one out")
    windows, kept = pipe.layout.windows(clip, window, chosen(overlap, max(1, round(window * OVERLAP)))), clip
    if video is not None:
        there = _frames_of(clip, video, None)
        if clip.frames > there:
            raise InputError(
                f"the video lasts {float(video.shape.seconds):.2f} s, {there} frames; {clip.frames} are asked"
            )
        used = video.shape.frames if frames is None else round(clip.seconds * video.shape.fps)
        kept = replace(video.shape, frames=min(video.shape.frames, used))
    elif audio is not None and frames is not None:
        there = audio[0].shape[1] / audio[1]
        if there + 1 / float(clip.fps) < clip.seconds:
            raise InputError(f"the sound lasts {there:.2f} s; {clip.frames} frames last {float(clip.seconds):.2f} s")
    return LongPlan(clip, windows, together if video is not None else 1, kept)


def _frames_of(one: ClipShape, given: GivenVideo | None, audio: tuple[np.ndarray, int] | None) -> int:
    """As many as what is given lasts, a begun one too; those of a window where nothing is."""
    if given is not None:
        exact = given.shape.seconds * one.fps
    elif audio is not None:
        exact = Fraction(audio[0].shape[1], audio[1]) * one.fps
    else:
        return one.frames
    return max(1, -int(-exact // 1))


class GroupConditions:
    """The conditions of each group, in order. The texts are encoded once.

    generator: its first draw is the noise on the pictures of a group, the same for all groups.
    The rest is as in `JointDiTPipeline.__call__`.
    """

    def __init__(
        self,
        pipe: JointDiTPipeline,
        prompt: str | None,
        negative_prompt: str | None,
        generator: torch.Generator | None,
        *,
        fit: Fit = "cover",
        motion_bucket: float | None = None,
        noise_augmentation: float | None = None,
    ) -> None:
        self._pipe, self._prompts = pipe, (prompt, negative_prompt)
        self._start = None if generator is None else (generator.device, generator.get_state())
        self._options = {"fit": fit, "motion_bucket": motion_bucket, "noise_augmentation": noise_augmentation}
        self._texts = encode_texts(pipe, [prompt], [negative_prompt])

    def of(
        self, group: Windows, pictures: Sequence[Picture], video: Tensor | None = None, audio: Tensor | None = None
    ) -> Conditions:
        """pictures: one for each window.    video, audio: latents of a given modality, [1, T, ...] of the group."""
        count = len(group.starts)
        generator = None
        if self._start is not None:
            device, state = self._start
            generator = torch.Generator(device).set_state(state)
        conditions = self._pipe.condition(
            pictures,
            *([prompt] * count for prompt in self._prompts),
            group.shape,
            generator,
            given_video=video is not None,
            texts=tuple(text.select([0] * count) for text in self._texts),
            **self._options,
        )
        return replace(conditions, video_latents=video, audio_latents=audio)


class GroupSampler:
    """Samples group after group.

    generator: as `Conditions.generator` makes one of the first group.
    callback: called with (done, total, clean estimates of the group [1, T, ...], or None at the start), in steps of all
    windows.
    """

    def __init__(
        self,
        pipe: JointDiTPipeline,
        windows: Windows,
        settings: SamplingSettings,
        hold: Any,
        generator: torch.Generator | None,
        callback: Callable[[int, int, JointLatents | None], None],
    ) -> None:
        self._pipe, self._settings, self._generator, self._callback = pipe, settings, generator, callback
        self._steps = pipe.grid(settings, hold).steps
        self._total, self._done = self._steps * len(windows.starts), 0
        self.before: tuple[Windows, JointLatents] | None = None
        callback(0, self._total, None)

    def sample(self, group: Windows, conditions: Conditions, max_batch: int = ONE_WINDOW) -> JointLatents:
        """Latents of a group [1, T, ...] on the host. max_batch: rows of one evaluation."""
        count = len(group.starts)

        def report(step: int, steps: int, estimate: JointLatents) -> None:
            self._callback(self._done + count * step, self._total, estimate)

        latents = self._pipe.sample(
            conditions,
            self._settings,
            generator=self._generator,
            max_batch=max_batch,
            callback=report,
            windows=group,
            known=self._known(group),
        ).map(lambda part: part.cpu())
        self._done += count * self._steps
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


def join_groups(groups: Sequence[Windows], latents: Sequence[JointLatents]) -> JointLatents:
    """Of the whole clip, [1, T, ...]: each group begins with the end of the one before."""
    video, audio = latents[0].video, latents[0].audio
    for group, part in zip(groups[1:], latents[1:], strict=True):
        start = group.starts[0]
        video = torch.cat([video[:, : start.frame], part.video], 1)
        audio = torch.cat([audio[:, :, : start.audio], part.audio], 2)
    return JointLatents(video, audio)


def part_of_sound(
    audio: tuple[np.ndarray, int], group: Windows, latents_per_second: Fraction
) -> tuple[np.ndarray, int]:
    """A given sound from the start of a group on."""
    samples, rate = audio
    start = round(group.starts[0].audio / latents_per_second * rate)
    return samples[:, start : start + round(group.shape.seconds * rate) + 1], rate
