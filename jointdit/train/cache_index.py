"""What the shards of a cache hold, in one file, so that a start reads this file and not the header of every shard.

`index.json` follows from the shards: it is brought up to date where shards came, went or changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..media.files import whole_file, write_json

INDEX, FORMAT = "index.json", 1
SHARDS, LEFT_OUT = "shard-*-of-*.safetensors", "left-out-*-of-*.json"


class Measures(NamedTuple):
    """What a clip was measured to be (`measures.py`), or the least that it has to be.

    loudness: root mean square in dB of full scale.    motion: mean change from frame to frame in grey levels (0..255).
    sync: how motion follows loudness, above chance (-2..2).
    """

    loudness: float = -math.inf
    motion: float = -math.inf
    sync: float = -math.inf

    def reaches(self, least: Measures) -> bool:
        """Whether nothing is below `least`."""
        return all(value >= lowest for value, lowest in zip(self, least, strict=True))


class Stamp(NamedTuple):
    """What changes with a file's contents."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class Shard:
    """One file of clips.

    clips: names of its N rows.    captions: the texts it has embeddings of, first the empty one.
    caption: of each clip [N], the number of its text.    recordings: those whose clips are all in it.
    measures: [N], or none where the clips were not measured.
    """

    path: Path
    clips: list[str]
    captions: list[str]
    caption: list[int]
    recordings: list[str]
    measures: list[Measures]


def recording_of(clip: str) -> str:
    """The name of the recording that a clip was cut from."""
    return clip.rpartition("#")[0]


def read_shards(folder: Path) -> list[Shard]:
    """All shards of a cache, in the order of their names. Raises InputError for a file that is none."""
    known = _read_index(folder / INDEX)
    entries: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob(SHARDS)):
        stamp, entry = list(Stamp.of(path)), known.get(path.name)
        entries[path.name] = entry if entry and entry["stamp"] == stamp else {"stamp": stamp, **_describe(path)}
    if entries != known:
        with suppress(InputError), whole_file(folder / INDEX) as partial:  # a folder may be for reading alone
            # Without white space, which would be most of it.
            partial.write_text(json.dumps({"format": FORMAT, "shards": entries}), encoding="utf-8")
    return [
        Shard(
            folder / name,
            entry["clips"],
            entry["captions"],
            entry["caption"],
            entry["recordings"],
            [Measures(*values) for values in entry["measures"]],
        )
        for name, entry in entries.items()
    ]


def _read_index(path: Path) -> dict[str, dict[str, Any]]:
    with suppress(OSError, ValueError):
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] == FORMAT:
            return index["shards"]
    return {}


def _describe(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads(file.metadata()["shard"])
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a shard of a cache ({error}); delete it and fill the cache again") from error
    skipped = described.get("skipped", {})  # where caches of version 0.1 listed what they left out
    return {
        "clips": described["clips"],
        "captions": described["captions"],
        "caption": described["caption"],
        "recordings": [name for name in described["recordings"] if name not in skipped],
        "measures": described.get("measures", []),
    }


def read_left_out(folder: Path) -> dict[tuple[str, Stamp], str]:
    """Why files were left out of a cache, by the recording's name and the file as it was then."""
    reasons = {}
    for path in sorted(folder.glob(LEFT_OUT)):
        try:
            listed = json.loads(path.read_text(encoding="utf-8"))
            reasons |= {(name, Stamp(*entry["stamp"])): entry["reason"] for name, entry in listed.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: not a list of files left out ({error}); delete it") from error
    return reasons


def write_left_out(path: Path, reasons: Mapping[tuple[str, Stamp], str]) -> None:
    """The files that one writer of a cache left out."""
    listed = {name: {"reason": reason, "stamp": list(stamp)} for (name, stamp), reason in reasons.items()}
    write_json(path, listed)


def held_recordings(shards: Iterable[Shard]) -> set[str]:
    """Names of the recordings whose clips are there."""
    return {name for shard in shards for name in shard.recordings}
