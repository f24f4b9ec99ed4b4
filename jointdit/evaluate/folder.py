"""A folder of sounding videos, put to the measures that need no truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..media import Clip, read_clip
from .align import AlignScores, Curves, align_clips

SUFFIXES = (".mp4", ".webm")
MAX_SECONDS = 30.0  # of each clip
FEW = 20  # clips below which a set cannot be ranked


@dataclass(frozen=True)
class FolderScores:
    """Scores of a folder. motion: mean grey levels a frame.    skipped: files without sound.    note: what to mind."""

    align: AlignScores
    motion: float
    loudness_dbfs: float
    skipped: tuple[str, ...]
    note: str


def clip_files(folder: Path) -> list[Path]:
    """The videos of a folder. Raises InputError where there is no folder or fewer than two videos."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name one with {' or '.join(SUFFIXES)} files")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(paths) < 2:
        raise InputError(f"{folder}: {len(paths)} videos ({' or '.join(SUFFIXES)}); shuffled pairs need at least 2")
    return paths


def score_folder(
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    each: Callable[[Path, Clip], None] = lambda path, clip: None,
) -> FolderScores:
    """Scores the videos of a folder. each: called with every clip that has sound, while it is in memory."""
    paths = clip_files(folder)
    curves, skipped, loudness = [], [], []
    for index, path in enumerate(paths):
        clip = read_clip(path, max_seconds=MAX_SECONDS)
        if clip.has_audio:
            curves.append(Curves.of(clip))
            loudness.append(10 * np.log10(np.square(clip.audio).mean() + 1e-12))
            each(path, clip)
        else:
            skipped.append(path.name)
        progress(index + 1, len(paths))
    if len(curves) < 2:
        raise InputError(f"{folder}: {len(curves)} of {len(paths)} videos have sound; shuffled pairs need at least 2")
    note = f"{len(curves)} clips are too few to rank anything" if len(curves) < FEW else ""
    moving = float(np.mean([curve.motion[1:].mean() if len(curve.motion) > 1 else 0.0 for curve in curves]))
    return FolderScores(align_clips(curves), moving, float(np.mean(loudness)), tuple(skipped), note)
