"""Does the sound come when it is seen? Clips of known effects, by effect, beside chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ..media import Clip
from .heard import events_heard, loudness
from .matching import match_events
from .scores import Corrected
from .seen import events_seen, level

CONTINUOUS = ("rain", "siren")  # come and go without events: scored by the correlation of what is seen and heard


@dataclass(frozen=True, eq=False)
class Observed:
    """What the detectors find in one clip.

    seen, heard: event times in seconds.    level: how far each frame is from the first [T], in grey levels.
    loudness: [T] in dB.    frame_seconds: 1 / fps, within which an event seen and an event heard are one.
    """

    effect: str
    seen: NDArray[np.float64]
    heard: NDArray[np.float64]
    level: NDArray[np.float32]
    loudness: NDArray[np.float32]
    frame_seconds: float


@dataclass(frozen=True)
class EventSync:
    """Events of one effect. seen_heard: share of the seen events that are heard within one frame (recall of the sound);
    heard_seen: share of the heard events that are seen (its precision).    offset_ms: median of heard minus seen.
    """

    clips: int
    seen_per_clip: float
    heard_per_clip: float
    seen_heard: Corrected
    heard_seen: Corrected
    offset_ms: float


@dataclass(frozen=True)
class CurveSync:
    """A continuous effect. correlation: of how far the picture is from its start with how loud it is, over frames."""

    clips: int
    correlation: Corrected


def observe(clip: Clip, effect: str) -> Observed:
    """Runs the detectors on a clip that shows `effect`."""
    return Observed(
        effect,
        events_seen(clip.frames, clip.fps),
        events_heard(clip.audio, clip.sample_rate),
        level(clip.frames),
        loudness(clip.audio, clip.sample_rate, clip.fps, len(clip.frames)),
        float(1 / clip.fps),
    )


def sync_by_effect(clips: Sequence[Observed]) -> dict[str, EventSync | CurveSync]:
    """Scores by effect, and over all effects with events as "all". An effect with a single clip has no chance (NaN) and
    counts in "all" only if no effect has more.

    Chance: the sounds of the other clips of the same effect, of those whose number of heard events is nearest.
    """
    ordered = sorted(clips, key=lambda clip: clip.effect)
    groups = {effect: list(group) for effect, group in groupby(ordered, key=lambda clip: clip.effect)}
    found: dict[str, EventSync | CurveSync] = {}
    tables = {}
    for effect, group in groups.items():
        if effect in CONTINUOUS:
            found[effect] = _curve_sync(group)
        else:
            tables[effect] = [_hits(group, index) for index in range(len(group))]
            found[effect] = _event_sync(tables[effect])
    if tables:
        most = min(2, max(map(len, tables.values())))
        found["all"] = _event_sync([row for table in tables.values() if len(table) >= most for row in table])
    return found


@dataclass(frozen=True, eq=False)
class _Hits:
    """One clip: matched events, the expected number of them by chance, and how many there are."""

    hits: int
    chance: float
    seen: int
    heard: int
    chance_heard: float
    offsets: NDArray[np.float64]


def _hits(group: Sequence[Observed], index: int) -> _Hits:
    clip, others = group[index], [other for other in group if other is not group[index]]
    distances = [abs(len(other.heard) - len(clip.heard)) for other in others]
    partners = [other for other, far in zip(others, distances, strict=True) if far == min(distances)]
    by_chance = [len(match_events(clip.seen, other.heard, clip.frame_seconds)) for other in partners]
    pairs = match_events(clip.seen, clip.heard, clip.frame_seconds)
    chance = float(np.mean(by_chance)) if by_chance else float("nan")
    heard = np.mean([len(other.heard) for other in partners]) if partners else 0
    return _Hits(
        hits=len(pairs),
        chance=chance,
        seen=len(clip.seen),
        heard=len(clip.heard),
        chance_heard=chance * len(clip.heard) / heard if heard else 0.0,
        offsets=clip.heard[pairs[:, 1]] - clip.seen[pairs[:, 0]],
    )


def _event_sync(table: Sequence[_Hits]) -> EventSync:
    hits, chance, chance_heard, seen, heard = (
        [getattr(row, name) for row in table] for name in ("hits", "chance", "chance_heard", "seen", "heard")
    )
    offsets = np.concatenate([row.offsets for row in table])
    return EventSync(
        clips=len(table),
        seen_per_clip=float(np.mean(seen)),
        heard_per_clip=float(np.mean(heard)),
        seen_heard=Corrected.of(hits, chance, seen),
        heard_seen=Corrected.of(hits, chance_heard, heard),
        offset_ms=1000 * float(np.median(offsets)) if len(offsets) else float("nan"),
    )


def _curve_sync(group: Sequence[Observed]) -> CurveSync:
    table = np.array([[correlation(clip.level, other.loudness) for other in group] for clip in group])
    own = np.diag(table)
    others = (table.sum(1) - own) / (len(group) - 1) if len(group) > 1 else np.full(1, np.nan)
    return CurveSync(len(group), Corrected.of(own, others, np.ones(len(group))))


def correlation(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    """Pearson's, over the frames that both have; 0 where one of them never changes."""
    frames = min(len(one), len(two))
    one, two = one[:frames] - one[:frames].mean(), two[:frames] - two[:frames].mean()
    scale = np.linalg.norm(one) * np.linalg.norm(two)
    return float(one @ two / scale) if scale > 1e-9 else 0.0


def lagged_correlation(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    """The best `correlation` of two curves of the same length within one frame of lag."""
    return max(correlation(one, two), correlation(one[1:], two[:-1]), correlation(one[:-1], two[1:]))
