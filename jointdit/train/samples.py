"""Clips that a model in training makes of held-out conditions, and how far their picture and sound belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from typing import Any

import torch

from ..evaluate.align import Curves, align_clips
from ..latents import ClipShape
from ..media import Clip
from ..pipeline import Conditions, JointDiTPipeline
from .cache import LatentCache
from .objective import JointObjective, to_device
from .seeds import generator_of


@torch.no_grad()
def sample_clips(
    pipe: JointDiTPipeline,
    objective: JointObjective,
    cache: LatentCache,
    numbers: Sequence[int],
    device: torch.device,
    autocast: Callable[..., AbstractContextManager[Any]],
) -> Iterator[Clip]:
    """A clip for each of these in the cache, of its first picture and its caption, with the model's own defaults. The
    noise follows from the clip's name, so that the samples of all validations can be compared.

    autocast: the precision of training.
    """
    encoding = cache.encoding
    shape = ClipShape(encoding.frames, Fraction(encoding.fps), encoding.height, encoding.width)
    with _decoders_on(pipe, device):
        for number in numbers:
            clips = to_device(cache.batch([number]), device)
            no, yes = torch.tensor([False], device=device), torch.tensor([True], device=device)
            conditional, unconditional, pictured = (
                objective.conditions(clips, *dropped).to(pipe.joint_blocks.dtype)
                for dropped in ((no, no), (no, yes), (yes, no))
            )
            conditions = Conditions(conditional, unconditional, shape, pictured)
            with autocast():
                latents = pipe.sample(conditions, generator=generator_of("sample", cache.names[number]))
            frames, audio = pipe.decode_video(latents.video)[0], pipe.decode_audio(latents.audio, shape)[0]
            yield Clip(frames, shape.fps, audio, pipe.layout.sample_rate)


@contextmanager
def _decoders_on(pipe: JointDiTPipeline, device: torch.device) -> Iterator[None]:
    """Training itself has no use for them."""
    decoders = (pipe.video_vae, pipe.audio_vae, pipe.vocoder)
    before = [decoder.device for decoder in decoders]
    try:
        for decoder in decoders:
            decoder.to(device)
        yield
    finally:
        for decoder, place in zip(decoders, before, strict=True):
            decoder.to(place)


def sync_scores(clips: Sequence[Clip]) -> dict[str, float]:
    """What picture and sound of two clips or more have in common beyond shuffled pairs, with 95% intervals."""
    scores = align_clips([Curves.of(clip) for clip in clips])
    found = {}
    for name, margin in (("onset_align", scores.onset_align), ("motion_loudness", scores.motion_loudness)):
        low, high = margin.interval
        found |= {name: margin.margin, f"{name}_low": low, f"{name}_high": high}
    return found
