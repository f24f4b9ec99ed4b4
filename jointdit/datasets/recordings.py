"""Sounding videos on disk: which files there are, what each is called, and clips cut out of them.

Nothing here is fatal but a folder without any video: a file that is broken, without sound, silent or too short is
reported with its reason and left out.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..latents import ClipShape
from ..media import VIDEO_SUFFIXES, fit_audio, fit_image, stream_clip
from ..media.partials import is_partial
from .splits import LISTS, SPLITS, read_lists, refuse_missing

TABLE = "captions.csv"
QUIETEST = 1e-3  # root mean square, -60 dBFS: below, a clip counts as silent


@dataclass(frozen=True)
class Recording:
    """A video file with its caption. `name` is its path below the folder; it stands for the file in caches.

    problem: why it cannot be used, where that is known before it is opened.
    split: train, validation or test; "" where the set does not say.
    """

    path: Path
    name: str
    caption: str
    problem: str = ""
    split: str = ""


@dataclass(frozen=True)
class TrainingClip:
    """frames: uint8 [F, H, W, 3]    audio: float32 [samples], mono    name: that of its recording and its number."""

    name: str
    caption: str
    frames: np.ndarray
    audio: np.ndarray


def class_folders(folder: Path) -> Iterator[Recording]:
    """A folder for each class, whose name is the caption (AVSync15, Landscape, and folders of one's own). A text file
    beside a video, of the same name, takes its place. `folder` itself is no class."""
    for path in _videos(folder):
        beside = path.with_suffix(".txt")
        problem = f"no caption; write one into {beside.name}"
        if beside.is_file():
            caption = _text(beside)
        else:
            caption = path.parent.name.replace("_", " ") if path.parent != folder else None
            problem += f", or move it into a folder named like what it shows, or use the layout csv with {TABLE}"
        yield _recording(path, folder, caption, problem)


def table(folder: Path) -> Iterator[Recording]:
    """`captions.csv` has rows of a file's path below the folder and its caption; other columns do not matter."""
    captions = {row[0]: row[1] for row in _rows(folder / TABLE) if len(row) >= 2}
    for path in _videos(folder):
        yield _recording(path, folder, captions.get(_name(path, folder)), f"no caption in {TABLE}")


def synthetic(folder: Path) -> Iterator[Recording]:
    """What `jointdit synth` wrote: the caption is in the JSON file of the same name."""
    for path in _videos(folder):
        try:
            caption = json.loads(_text(path.with_suffix(".json")))["caption"]
        except (OSError, ValueError, TypeError, KeyError):
            caption = None
        yield _recording(path, folder, caption, f"no caption in {path.stem}.json")


def vggsound(folder: Path) -> Iterator[Recording]:
    """VGGSound: `vggsound.csv` has rows of identity, start second, label and split; a file's name is the identity and
    the start with six digits."""
    rows = (row for row in _rows(folder / "vggsound.csv") if len(row) >= 3 and row[1].strip().isdigit())
    known = {f"{row[0]}_{int(row[1]):06d}": row[2:] for row in rows}
    for path in _videos(folder):
        label, split, *_ = [*known.get(path.stem, [None]), ""]
        yield replace(_recording(path, folder, label, "not in vggsound.csv"), split=(split or "").strip())


def greatest_hits(folder: Path) -> Iterator[Recording]:
    """Greatest Hits: beside each video, `<identity>_times.txt` has a line for each hit: seconds, material, action and
    reaction. The caption names the most frequent action and material."""
    for path in _videos(folder):
        times = path.with_name(path.stem.split("_")[0] + "_times.txt")
        lines = _text(times).splitlines() if times.is_file() else []
        known = [tuple(line.split()[1:3]) for line in lines if len(line.split()) >= 3]
        known = [hit for hit in known if "None" not in hit]
        caption = None
        if known:
            material, action = max(sorted(set(known)), key=known.count)
            caption = f"a drumstick, {action} {material}"
        yield _recording(path, folder, caption, f"no known hit in {times.name}")


LAYOUTS: dict[str, Callable[[Path], Iterator[Recording]]] = {
    "classes": class_folders,
    "csv": table,
    "synth": synthetic,
    "avsync15": class_folders,
    "landscape": class_folders,
    "vggsound": vggsound,
    "greatest-hits": greatest_hits,
}
PUBLISHED = ("avsync15", "landscape", "vggsound", "greatest-hits")  # layouts of sets that come with splits


def find_recordings(
    folder: Path, layout: str = "classes", split: str | None = None, limit: int | None = None
) -> list[Recording]:
    """All recordings of a folder, sorted by name.

    split: only those of this part of a published set.
    limit: at most so many, drawn by their names; a higher limit adds to them.
    Raises InputError if there are none, or none with a caption.
    """
    if layout not in LAYOUTS:
        raise InputError(f"layout {layout!r}: give one of {', '.join(LAYOUTS)}")
    if split not in (None, *SPLITS):
        raise InputError(f"split {split!r}: give one of {', '.join(SPLITS)}")
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name one with videos")
    found = sorted(LAYOUTS[layout](folder), key=lambda recording: recording.name)
    if not found:
        raise InputError(f"{folder}: no videos ({', '.join(VIDEO_SUFFIXES)}) as the layout {layout} has them")
    if split is not None or layout in PUBLISHED:
        found = _with_splits(found, folder, layout)
    if split is not None:
        refuse_missing(folder, split, sorted({each.split for each in found} - {""}), _where(layout))
        found = [each for each in found if each.split == split]
    if limit is not None:
        found = sorted(sorted(found, key=lambda each: digest_of(each.name))[:limit], key=lambda each: each.name)
    if all(recording.problem for recording in found):
        first = found[0]
        raise InputError(f"{folder}: none of the {len(found)} videos can be used; {first.name}: {first.problem}")
    return found


def _with_splits(found: list[Recording], folder: Path, layout: str) -> list[Recording]:
    """The recordings with their splits, and those that a list names and that are not there."""
    if layout == "vggsound":
        return found
    lists = read_lists(folder)
    placed, listed = [], set()
    for recording in found:
        split, lines = lists.find(recording.name)
        listed.update(lines)
        placed.append(replace(recording, split=split))
    for line in sorted(lists.splits.keys() - listed):
        for split in sorted(lists.splits[line]):
            problem = f"listed in {split}, and not there"
            placed.append(Recording(folder / line, line, "", problem, split))
    return sorted(placed, key=lambda recording: recording.name)


def _where(layout: str) -> str:
    if layout == "vggsound":
        return "the last column of vggsound.csv"
    return f"looked for {', '.join(LISTS)} in it and beside it, and for folders {', '.join(SPLITS)}"


def digest_of(name: str) -> int:
    """A number that follows from a name alone, evenly spread over 64 bits."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8], "big")


def part_of(name: str, parts: int) -> int:
    """Which of `parts` processes works on a recording: it follows from the name alone, so new files move no other."""
    return digest_of(name) % parts


def cut(recording: Recording, shape: ClipShape, sample_rate: int, max_seconds: float = 60.0) -> Iterator[TrainingClip]:
    """Clips of exactly `shape` and mono sound, one after the other from the recording's start; silent ones left out.
    Each is decoded when it is asked for, and frames are scaled as they come.

    Raises InputError, with the reason, if not one clip comes of it, or where the file turns out to be broken.
    """
    if recording.problem:
        raise InputError(f"{recording.name}: {recording.problem}")
    total, found = 0, False
    frames: list[np.ndarray] = []  # of the clip in work
    with stream_clip(recording.path, max_seconds=max_seconds, fps=shape.fps, sample_rate=sample_rate) as stream:
        if not stream.audio.size:
            raise InputError(f"{recording.name}: has no sound")
        mono = stream.audio.mean(0, keepdims=True)
        for picture, steps in stream.pictures:
            fitted = fit_image(picture, shape.height, shape.width)
            for _ in range(steps):
                frames.append(fitted)
                total += 1
                if len(frames) < shape.frames:
                    continue
                index = total // shape.frames - 1
                first = math.floor(index * shape.seconds * sample_rate)
                audio = fit_audio(mono[:, first:], shape.samples(sample_rate), fade=0)[0]
                if np.sqrt(np.square(audio).mean()) >= QUIETEST:
                    found = True
                    yield TrainingClip(f"{recording.name}#{index}", recording.caption, np.stack(frames), audio)
                frames.clear()
    if total < shape.frames:
        seconds = float(total / shape.fps)
        raise InputError(f"{recording.name}: lasts {seconds:.2f} s, less than {float(shape.seconds):.2f} s")
    if not found:
        raise InputError(f"{recording.name}: is silent")


def _videos(folder: Path) -> Iterator[Path]:
    videos = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    return (path for path in videos if not is_partial(path.relative_to(folder)))


def _recording(path: Path, folder: Path, caption: str | None, problem: str = "no caption") -> Recording:
    words = " ".join(caption.split()) if isinstance(caption, str) else ""
    return Recording(path, _name(path, folder), words, "" if words else problem)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _text(path: Path) -> str:
    """What is not UTF-8 in it costs a letter, not the file."""
    return path.read_text(encoding="utf-8", errors="replace")


def _rows(path: Path) -> Iterator[list[str]]:
    """Rows of a CSV file, a line each; those that are none are left out. Raises InputError if there is no file."""
    if not path.is_file():
        raise InputError(f"{path}: this layout's table is missing; put it there, or choose another layout")
    for line in _text(path).splitlines():
        with suppress(csv.Error):
            yield next(csv.reader([line]), [])
