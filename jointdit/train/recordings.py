"""Sounding videos on disk as training data: which files there are, what each is called, and clips cut out of them.

Nothing here is fatal but a folder without any video: a file that is broken, without sound, silent or too short is
reported with its reason and left out.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..latents import ClipShape
from ..media import fit_image, read_clip

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
QUIETEST = 1e-3  # root mean square, -60 dBFS: below, a clip counts as silent


@dataclass(frozen=True)
class Recording:
    """A video file with its caption. `name` is its path below the folder; it stands for the file in caches."""

    path: Path
    name: str
    caption: str


@dataclass(frozen=True)
class TrainingClip:
    """frames: uint8 [F, H, W, 3]    audio: float32 [samples], mono    name: that of its recording and its number."""

    name: str
    caption: str
    frames: np.ndarray
    audio: np.ndarray


def class_folders(folder: Path) -> Iterator[Recording]:
    """A folder for each class, whose name is the caption (AVSync15, Landscape, and folders of one's own). A text file
    beside a video, of the same name, speaks for it instead."""
    for path in _videos(folder):
        beside = path.with_suffix(".txt")
        caption = beside.read_text(encoding="utf-8") if beside.is_file() else path.parent.name.replace("_", " ")
        yield Recording(path, _name(path, folder), " ".join(caption.split()))


def synthetic(folder: Path) -> Iterator[Recording]:
    """What `jointdit synth` wrote: the caption is in the JSON file of the same name."""
    for path in _videos(folder):
        beside = path.with_suffix(".json")
        if beside.is_file():
            yield Recording(path, _name(path, folder), json.loads(beside.read_text(encoding="utf-8"))["caption"])


def vggsound(folder: Path) -> Iterator[Recording]:
    """VGGSound: `vggsound.csv` has rows of identity, start second, label and split; a file's name is the identity and
    the start with six digits."""
    table = folder / "vggsound.csv"
    if not table.is_file():
        raise InputError(f"{table}: VGGSound's table is missing; put it there, or choose another layout")
    with open(table, encoding="utf-8", newline="") as file:
        captions = {f"{row[0]}_{int(row[1]):06d}": row[2] for row in csv.reader(file) if len(row) >= 3}
    for path in _videos(folder):
        if path.stem in captions:
            yield Recording(path, _name(path, folder), captions[path.stem])


def greatest_hits(folder: Path) -> Iterator[Recording]:
    """Greatest Hits: beside each video, `<identity>_times.txt` has a line for each hit: seconds, material, action and
    reaction. The caption names the most frequent action and material."""
    for path in _videos(folder):
        times = path.with_name(path.stem.split("_")[0] + "_times.txt")
        if not times.is_file():
            continue
        hits = [line.split()[1:3] for line in times.read_text(encoding="utf-8").splitlines() if len(line.split()) >= 3]
        known = [(action, material) for material, action in hits if "None" not in (action, material)]
        if known:
            action, material = max(sorted(set(known)), key=known.count)
            yield Recording(path, _name(path, folder), f"a drumstick, {action} {material}")


LAYOUTS: dict[str, Callable[[Path], Iterator[Recording]]] = {
    "classes": class_folders,
    "synth": synthetic,
    "avsync15": class_folders,
    "landscape": class_folders,
    "vggsound": vggsound,
    "greatest-hits": greatest_hits,
}


def find_recordings(folder: Path, layout: str = "classes") -> list[Recording]:
    """All recordings of a folder, sorted by name. Raises InputError if there are none."""
    if layout not in LAYOUTS:
        raise InputError(f"layout {layout!r}: give one of {', '.join(LAYOUTS)}")
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name one with videos")
    found = sorted(LAYOUTS[layout](folder), key=lambda recording: recording.name)
    if not found:
        raise InputError(f"{folder}: no videos ({', '.join(SUFFIXES)}) as the layout {layout} has them")
    return found


def cut(recording: Recording, shape: ClipShape, sample_rate: int, max_seconds: float = 60.0) -> list[TrainingClip]:
    """Clips of exactly `shape` and mono sound, one after the other from the recording's start; silent ones left out.

    Raises InputError, with the reason, if not one clip comes of it.
    """
    clip = read_clip(recording.path, max_seconds=max_seconds, fps=shape.fps, sample_rate=sample_rate)
    if not clip.audio.size:
        raise InputError(f"{recording.name}: has no sound")
    count = len(clip.frames) // shape.frames
    if not count:
        raise InputError(f"{recording.name}: lasts {float(clip.seconds):.2f} s, less than {float(shape.seconds):.2f} s")
    samples = shape.samples(sample_rate)
    mono = clip.audio.mean(0)
    clips = []
    for index in range(count):
        first = math.floor(index * shape.seconds * sample_rate)
        audio = mono[first : first + samples]
        if np.sqrt(np.square(audio).mean()) < QUIETEST:
            continue
        frames = clip.frames[index * shape.frames : (index + 1) * shape.frames]
        fitted = np.stack([fit_image(frame, shape.height, shape.width) for frame in frames])
        clips.append(TrainingClip(f"{recording.name}#{index}", recording.caption, fitted, audio))
    if not clips:
        raise InputError(f"{recording.name}: is silent")
    return clips


def _videos(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
