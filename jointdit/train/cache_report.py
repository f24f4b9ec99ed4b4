"""What a cache holds: clips by caption, how loud and lively they are, and whether picture and sound belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import InputError
from .cache import Encoding, read_split
from .cache_index import Measures, held_recordings, read_left_out, read_shards, recording_of

SHARES = (5, 25, 50, 75, 95)  # percentiles
LISTED = 30  # captions that `lines` lists


@dataclass(frozen=True)
class Caption:
    """Clips of one caption and the means of their measures, if they were measured."""

    clips: int
    means: dict[str, float]


@dataclass(frozen=True)
class CacheReport:
    """captions: the most frequent first.    measured: clips with measures.
    percentiles: of each measure, by share in percent.    left_out: files without use, with their reasons.
    split: the part of a published set that it holds.
    """

    clips: int
    recordings: int
    seconds: float
    measured: int
    percentiles: dict[str, dict[int, float]]
    captions: dict[str, Caption]
    left_out: dict[str, str]
    split: str | None

    def lines(self) -> list[str]:
        """As a text."""
        split = f", split {self.split}" if self.split else ""
        found = [f"{self.clips} clips of {self.recordings} recordings, {self.seconds / 3600:.2f} hours{split}"]
        if not self.measured:
            return [*found, *(f"{caption.clips:8}  {text}" for text, caption in list(self.captions.items())[:LISTED])]
        if self.measured < self.clips:
            found.append(f"{self.clips - self.measured} clips are not measured")
        found.append("".join(["          ", *(f"{share:8}%" for share in SHARES)]))
        found += [
            f"{name:10}" + "".join(f"{values[share]:9.2f}" for share in SHARES)
            for name, values in self.percentiles.items()
        ]
        found.append("   clips" + "".join(f"{name:>10}" for name in Measures._fields) + "  caption")
        for text, caption in list(self.captions.items())[:LISTED]:
            means = (f"{caption.means[name]:10.2f}" if caption.means else " " * 10 for name in Measures._fields)
            found.append(f"{caption.clips:8}" + "".join(means) + f"  {text}")
        if len(self.captions) > LISTED:
            found.append(f"and {len(self.captions) - LISTED} more captions")
        return found


def report_cache(folder: Path) -> CacheReport:
    """Reads the index of a cache. Raises InputError if the folder is none, or is empty."""
    encoding, shards = Encoding.read(folder), read_shards(folder)
    clips: dict[str, tuple[str, Measures | None]] = {}
    for shard in shards:
        for row, name in enumerate(shard.clips):
            clips.setdefault(
                name, (shard.captions[shard.caption[row]], shard.measures[row] if shard.measures else None)
            )
    if not clips:
        raise InputError(f"{folder}: the cache holds no clips; fill it with `jointdit cache`")
    by_caption: dict[str, list[Measures | None]] = {}
    for caption, measures in clips.values():
        by_caption.setdefault(caption, []).append(measures)
    measured = [measures for _, measures in clips.values() if measures is not None]
    held = held_recordings(shards)
    return CacheReport(
        clips=len(clips),
        recordings=len({recording_of(name) for name in clips}),
        seconds=float(len(clips) * encoding.frames / Fraction(encoding.fps)),
        measured=len(measured),
        percentiles={
            name: dict(zip(SHARES, np.percentile(column, SHARES).round(4).tolist(), strict=True))
            for name, column in _columns(measured).items()
        },
        captions={
            caption: Caption(len(found), _means([each for each in found if each is not None]))
            for caption, found in sorted(by_caption.items(), key=lambda item: (-len(item[1]), item[0]))
        },
        left_out={name: reason for (name, _), reason in read_left_out(folder).items() if name not in held},
        split=read_split(folder),
    )


def _columns(measured: Sequence[Measures]) -> dict[str, list[float]]:
    return {name: [getattr(each, name) for each in measured] for name in Measures._fields} if measured else {}


def _means(measured: Sequence[Measures]) -> dict[str, float]:
    return {name: round(float(np.mean(column)), 4) for name, column in _columns(measured).items()}
