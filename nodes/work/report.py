"""Do picture and sound of a clip belong together? Needs packages that the other nodes do without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...jointdit.errors import InputError
from ...jointdit.evaluate import draw_sync
from ...jointdit.evaluate.clip import score_clip
from ...jointdit.media import Clip, exact_fps, fit_audio
from ..sockets import pixels_of, sound_of
from .progress import Progress

LEAST_FRAMES = 3
CAUTION = (
    "One clip proves little: noise that never stops scores, too. Many clips beside shuffled pairs of them: "
    "jointdit evaluate FOLDER"
)


def report_sync(images: Tensor, audio: Mapping[str, Any], fps: float) -> tuple[Tensor, str, float, float]:
    """The plot, the scores in words, onset alignment, and correlation of motion with loudness."""
    if len(images) < LEAST_FRAMES:
        raise InputError(f"{len(images)} frames show no motion; give at least {LEAST_FRAMES}")
    progress, rate = Progress(2), exact_fps(fps)
    samples, sample_rate = sound_of(audio)
    fitted = fit_audio(samples, round(len(images) / rate * sample_rate))
    clip = Clip(pixels_of(images), rate, fitted, sample_rate)
    scores = score_clip(clip)
    progress(1, 2)
    plot = torch.from_numpy(draw_sync(clip)).float() / 255
    progress(2, 2)
    report = "\n".join([*scores.lines(), CAUTION])
    return plot[None], report, scores.onset_align, scores.motion_loudness
