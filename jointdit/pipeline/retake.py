"""A time span of a clip made anew. `retake` is a method of `JointDiTPipeline`, which is its `pipe`; `PartToRetake` is
what it and the node are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..diffusion import samplers
from ..diffusion.windows import Known
from ..errors import InputError
from ..latents import ClipShape, JointLatents, Windows
from ..media import Clip, fit_audio, resample_audio
from .encode import Conditions
from .pieces import FRAMES_SEEN, DecodedSound, GivenVideo
from .settings import SamplingSettings
from .windowed import ONE_WINDOW, OVERLAP

JointDiTPipeline = Any  # the pipeline imports this module; its class is not known here
Callback = Callable[[str, int, int], None]
Retaken = Literal["both", "video", "sound"]
CROSSFADE = 0.01  # seconds within the span in which the new sound comes and goes


@dataclass(frozen=True)
class _Plan:
    """What is made anew, and what is looked at for it. Frames and latents are those of the model's grid.

    span: frames.    region: frames, whose start is `region.start` and which the windows cover.
    audio_span, audio_start: audio latents.
    """

    span: range
    region: range
    windows: Windows
    audio_span: range
    audio_start: int


def retake(
    pipe: JointDiTPipeline,
    clip: Clip,
    start: float,
    stop: float,
    prompt: str | None = None,
    negative_prompt: str | None = None,
    *,
    what: Retaken = "both",
    settings: SamplingSettings | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Clip:
    """A clip of which the span from `start` to `stop`, in seconds, is made anew, and nothing else: frames and samples
    outside of it are those of `clip`, and those inside go on from them on both sides.

    what: "video", "sound" or "both". A new video needs a clip of a size that the model can make; a new sound alone
    goes with any. The first frame always stays.
    settings, generator: as in `JointDiTPipeline.__call__`.    callback: as there; the only stage is "sample".
    Raises InputError for a span that is not in the clip, a clip without sound, and a size that cannot be made.
    """
    settings, report = settings or SamplingSettings(), callback or (lambda stage, done, total: None)
    part = PartToRetake.of(pipe, clip, start, stop, prompt, negative_prompt, what, generator)
    report("sample", 0, pipe.grid(settings, part.conditions.held).steps)
    latents = part.sample(
        settings,
        generator,
        pipe.memory.max_batch or ONE_WINDOW,
        lambda done, total, _: report("sample", done, total),
    )
    return part.in_clip(latents)


@dataclass(frozen=True)
class PartToRetake:
    """What `retake` is made of: a part of a clip encoded, then sampled, then put into the clip.

    pictures: those of the windows of `conditions`, uint8 [H, W, 3].
    """

    pipe: JointDiTPipeline
    clip: Clip
    seconds: tuple[float, float]
    what: Retaken
    plan: _Plan
    pictures: tuple[np.ndarray, ...]
    conditions: Conditions
    known: Known

    @classmethod
    def of(
        cls,
        pipe: JointDiTPipeline,
        clip: Clip,
        start: float,
        stop: float,
        prompt: str | None,
        negative_prompt: str | None,
        what: Retaken,
        generator: torch.Generator | None,
    ) -> PartToRetake:
        """The arguments are those of `retake`."""
        if what not in get_args(Retaken):
            raise InputError(f"retake {what!r}: give one of {', '.join(get_args(Retaken))}")
        if not 0 <= start < stop <= float(clip.seconds) + 1e-6:
            raise InputError(
                f"retake {start:g}-{stop:g}: give a span within the clip, 0 to {float(clip.seconds):.3f} s"
            )
        if not clip.has_audio:
            raise InputError("the clip to retake has no sound; give it one first, or all of it is made at once")
        shape = _shape(pipe, clip, what)
        plan = _plan(pipe, shape, start, stop)
        if what != "sound" and not plan.span:
            raise InputError(f"retake {start:g}-{stop:g}: no frame but the first is in this span; give a longer one")
        frames = list(GivenVideo.of(clip).at(shape, "cover"))
        given = _encode(pipe, clip, shape, plan, frames)
        hidden = {"sound": range(0), "video": plan.span, "both": plan.span}[what]
        pictures = [frames[_kept(place.frame + plan.region.start, hidden)] for place in plan.windows.starts]
        count = len(pictures)
        conditions = pipe.condition(
            pictures,
            [prompt] * count,
            [negative_prompt] * count,
            plan.windows.shape,
            generator,
            given_video=what == "sound",
        )
        known = Known(
            given,
            torch.tensor([what == "sound" or frame not in plan.span for frame in plan.region]),
            torch.tensor(
                [what == "video" or plan.audio_start + at not in plan.audio_span for at in range(given.audio.shape[2])]
            ),
        )
        held = {"sound": {"video_latents": given.video}, "video": {"audio_latents": given.audio}, "both": {}}[what]
        return cls(pipe, clip, (start, stop), what, plan, tuple(pictures), replace(conditions, **held), known)

    def sample(
        self,
        settings: SamplingSettings,
        generator: torch.Generator | None,
        max_batch: int,
        callback: samplers.Callback | None = None,
    ) -> JointLatents:
        """Latents of the part, [1, T, ...]. generator: as `of` leaves it, or as `Conditions.generator` makes one.

        max_batch, callback: as in `JointDiTPipeline.sample`.
        """
        return self.pipe.sample(
            self.conditions,
            settings,
            generator=generator,
            max_batch=max_batch,
            callback=callback,
            windows=self.plan.windows,
            known=self.known,
        )

    def in_clip(self, made: JointLatents) -> Clip:
        """The clip with these latents decoded in place of its own span."""
        pipe, clip, plan = self.pipe, self.clip, self.plan
        pixels = clip.frames if self.what == "sound" else _with_frames(pipe, clip.frames, made.video, plan)
        sound = clip.audio if self.what == "video" else _with_sound(pipe, clip, made.audio, plan, *self.seconds)
        return Clip(pixels, clip.fps, sound, clip.sample_rate)


def _shape(pipe: JointDiTPipeline, clip: Clip, what: Retaken) -> ClipShape:
    """Of the whole clip as the model sees it."""
    if what != "sound":
        return pipe.shape(len(clip.frames), clip.fps, *clip.frames.shape[1:3])
    own = pipe.shape()
    return pipe.shape(max(1, math.ceil(clip.seconds * own.fps)), own.fps, own.height, own.width)


def _plan(pipe: JointDiTPipeline, shape: ClipShape, start: float, stop: float) -> _Plan:
    size = min(pipe.defaults.frames, shape.frames)
    overlap = max(1, round(size * OVERLAP))
    span = range(max(1, math.ceil(start * shape.fps)), min(shape.frames, math.ceil(stop * shape.fps)))
    middle = (span.start + span.stop) // 2
    first = min(middle - size // 2, span.start - overlap // 2)
    first = max(0, min(first, shape.frames - size))
    last = min(shape.frames, max(first + size, span.stop + overlap // 2))
    region = range(first, last)
    per_frame = pipe.layout.audio_rate / shape.fps
    windows = pipe.layout.windows(replace(shape, frames=len(region)), size, overlap)
    rate = pipe.layout.audio_rate
    audio_span = range(math.floor(start * rate), math.ceil(stop * rate))
    return _Plan(span, region, windows, audio_span, round(region.start * per_frame))


def _kept(frame: int, hidden: range) -> int:
    """A frame to go on from: this one, or the last that stays before it."""
    return hidden.start - 1 if frame in hidden else frame


def _encode(
    pipe: JointDiTPipeline, clip: Clip, shape: ClipShape, plan: _Plan, frames: list[np.ndarray]
) -> JointLatents:
    """Latents of the region, [1, T, ...]."""
    part = Clip(np.stack([frames[index] for index in plan.region]), shape.fps, np.zeros((1, 0), np.float32), 16000)
    _, _, video = pipe.encode_video(part, replace(shape, frames=len(plan.region)), False)
    seconds = plan.windows.audio_latents / pipe.layout.audio_rate
    first = round(plan.audio_start / pipe.layout.audio_rate * clip.sample_rate)
    sound = fit_audio(clip.audio[:, first:], round(seconds * clip.sample_rate))
    length = replace(shape, frames=plan.windows.audio_latents, fps=pipe.layout.audio_rate)
    return JointLatents(video, pipe.encode_audio(sound, clip.sample_rate, length))


def _with_frames(pipe: JointDiTPipeline, frames: np.ndarray, latents: Tensor, plan: _Plan) -> np.ndarray:
    """The clip's frames with those of the span in place of its own."""
    first, last = (place - plan.region.start for place in (plan.span.start, plan.span.stop))
    before = min(first, FRAMES_SEEN)
    made = pipe.decode_video(latents[:, first - before : last + FRAMES_SEEN])[0]
    result = frames.copy()
    result[plan.span.start : plan.span.stop] = made[before : before + len(plan.span)]
    return result


def _with_sound(
    pipe: JointDiTPipeline,
    clip: Clip,
    latents: Tensor,
    plan: _Plan,
    start: float,
    stop: float,
) -> np.ndarray:
    """The clip's sound with that of the span in place of its own."""
    own, rate = pipe.layout.sample_rate, clip.sample_rate
    offset = plan.audio_start / pipe.layout.audio_rate
    decoded = DecodedSound(pipe, plan.windows, round(plan.windows.audio_latents / pipe.layout.audio_rate * own))
    parts = [decoded.add(latents[:, :, place]) for _, place in plan.windows.places()]
    made = resample_audio(np.concatenate(parts, 1), own, rate)
    first, last = round(start * rate), min(round(stop * rate), clip.audio.shape[1])
    new = fit_audio(made[:, first - round(offset * rate) :], last - first, fade=0)
    weight = np.ones(last - first, np.float32)
    edge = min(round(CROSSFADE * rate), (last - first) // 2)
    rising = np.sin((np.arange(edge, dtype=np.float32) + 0.5) / max(edge, 1) * (np.pi / 2)) ** 2
    if first:
        weight[:edge] = rising
    if last < clip.audio.shape[1]:
        weight[len(weight) - edge :] = rising[::-1]
    result = clip.audio.copy()
    result[:, first:last] += (new - result[:, first:last]) * weight
    return result
