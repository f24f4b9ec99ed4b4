"""A folder of sounding videos, scored by the measures that need no ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, in_one_line
from ..media import VIDEO_SUFFIXES, Clip, read_clip
from ..synthetic import EFFECTS
from .align import AlignScores, Curves, align_clips
from .distance import Features, Frechet, picture_windows, sound_windows
from .heard import SILENT, mean_loudness
from .sync import CurveSync, EventSync, Observed, observe, sync_by_effect

MAX_SECONDS = 30.0  # of each clip
FEW = 20  # clips below which a set cannot be ranked


@dataclass(frozen=True)
class FolderScores:
    """Scores of a folder. motion: mean grey levels a frame.    silent: share of the clips.
    sync: by effect, where every clip comes from `jointdit synth`.
    sound_distance, picture_distance: from the reference, if there is one.
    skipped: why files were left out, by name.    note: a caveat, or nothing.
    """

    align: AlignScores
    sync: dict[str, EventSync | CurveSync] | None
    motion: float
    loudness_dbfs: float
    silent: float
    sound_distance: Frechet | None
    picture_distance: Frechet | None
    skipped: dict[str, str]
    note: str


@dataclass(frozen=True, eq=False)
class _Measured:
    """What is kept of one clip."""

    curves: Curves
    observed: Observed | None
    loudness: float
    sound: Features
    pictures: Features

    @classmethod
    def of(cls, clip: Clip, effect: str | None) -> _Measured:
        observed = None if effect is None else observe(clip, effect)
        return cls(Curves.of(clip), observed, mean_loudness(clip.audio), sound_windows(clip), picture_windows(clip))


def clip_files(folder: Path, match: str = "*") -> list[Path]:
    """The videos of a folder whose names match. Raises InputError for a missing folder, an invalid pattern, or fewer
    than two videos."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name one with {', '.join(VIDEO_SUFFIXES)} files")
    try:
        found = sorted(folder.glob(match))
    except (NotImplementedError, ValueError, IndexError, OSError) as error:  # IndexError: of "."
        shown = in_one_line(repr(match), 60).strip("'")
        raise InputError(f"--match {shown}: {str(error).lower()}; give one such as 'joint_*'") from error
    paths = [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES]
    if len(paths) < 2:
        raise InputError(f"{folder}: {len(paths)} videos ({', '.join(VIDEO_SUFFIXES)}); shuffled pairs need at least 2")
    return paths


def score_folder(
    folder: Path,
    match: str = "*",
    reference: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    each: Callable[[Path, Clip, Curves], None] = lambda path, clip, curves: None,
    each_reference: Callable[[Path, Clip, Curves], None] = lambda path, clip, curves: None,
) -> FolderScores:
    """Scores the videos of a folder whose names match. Files without sound, and broken ones, are left out.

    reference: a folder of videos as they should be, from which distances are measured.
    each, each_reference: called with every clip that counts, while it is in memory.
    progress: called with (stage, done, total).
    """
    paths = clip_files(folder, match)
    known = clip_files(reference) if reference else []
    clips, skipped = _measure(folder, paths, lambda done, total: progress("clips", done, total), each)
    sound_distance = picture_distance = None
    if reference:
        others, left_out = _measure(
            reference, known, lambda done, total: progress("reference", done, total), each_reference
        )
        skipped |= left_out
        sound_distance = Frechet.of([clip.sound for clip in clips], [clip.sound for clip in others])
        picture_distance = Frechet.of([clip.pictures for clip in clips], [clip.pictures for clip in others])
    note = f"{len(clips)} clips are too few to rank anything" if len(clips) < FEW else ""
    curves = [clip.curves for clip in clips]
    observed = [clip.observed for clip in clips if clip.observed is not None]
    sync = sync_by_effect(observed) if len(observed) == len(clips) else None
    moving = float(np.mean([curve.motion[1:].mean() if len(curve.motion) > 1 else 0.0 for curve in curves]))
    loudness = np.array([clip.loudness for clip in clips])
    return FolderScores(
        align=align_clips(curves),
        sync=sync,
        motion=moving,
        loudness_dbfs=float(loudness.mean()),
        silent=float(np.mean(loudness < SILENT)),
        sound_distance=sound_distance,
        picture_distance=picture_distance,
        skipped=skipped,
        note=note,
    )


def _measure(
    folder: Path,
    paths: list[Path],
    progress: Callable[[int, int], None],
    each: Callable[[Path, Clip, Curves], None],
) -> tuple[list[_Measured], dict[str, str]]:
    clips, skipped = [], {}
    for index, path in enumerate(paths):
        try:
            clip = read_clip(path, max_seconds=MAX_SECONDS)
        except InputError as error:
            skipped[path.name] = str(error).removeprefix(f"{path}: ")
        else:
            if clip.has_audio:
                clips.append(_Measured.of(clip, _effect(path)))
                each(path, clip, clips[-1].curves)
            else:
                skipped[path.name] = "no sound"
        progress(index + 1, len(paths))
    if len(clips) < 2:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise InputError(
            f"{folder}: {len(clips)} of {len(paths)} videos can be measured; shuffled pairs need at least 2 ({reasons})"
        )
    return clips, skipped


def _effect(path: Path) -> str | None:
    """The effect of a clip that `jointdit synth` wrote, from the JSON beside it."""
    try:
        effect = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["effect"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return effect if effect in EFFECTS else None
