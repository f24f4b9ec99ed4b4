"""A model's clips on the first pictures of a test set, beside what was recorded, in files of the same names.

    DIR/test_set.json                            what was asked, and of whom
    DIR/captions.csv                             the caption of every name
    DIR/reference/{clips,video,audio}/NAME       what was recorded: with sound, without, and the sound as WAV
    DIR/sample-0/{clips,video,audio}/NAME        what the model made of its first picture; sample-1, ...: other seeds

A file that is there is not made again, so a run that was stopped goes on, and processes can share the names.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..datasets.recordings import Recording, part_of
from ..datasets.takes import take_clips
from ..errors import InputError
from ..latents import ClipShape
from ..media import Clip
from ..media.files import whole_file, write_json
from ..media.sound import write_wav
from ..pipeline import JointDiTPipeline, SamplingSettings

MANIFEST, CAPTIONS, REFERENCE, LEFT_OUT = "test_set.json", "captions.csv", "reference", "left-out"
KINDS = ("video", "audio", "clips")  # in the order in which they are written: the last tells that all are there
SUFFIX = {"video": ".mp4", "audio": ".wav", "clips": ".mp4"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Item:
    """One clip of a test set. name: of its files.    place: which of the recording's clips it is."""

    name: str
    recording: str
    place: int
    caption: str


@dataclass(frozen=True)
class PairedSet:
    """A folder of `generate_set`. settings: what it was made with.    samples: clips of each picture."""

    folder: Path
    settings: dict[str, Any]
    items: list[Item]
    samples: int

    @classmethod
    def read(cls, folder: Path) -> PairedSet:
        """Raises InputError for a folder that is none."""
        path = folder / MANIFEST
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
            items = [Item(**item) for item in described["items"]]
            return cls(folder, described["settings"], items, int(described["settings"]["samples"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: not a test set ({error}); make it with `jointdit evaluate --generate`"
            ) from error

    def path(self, of: str, kind: str, name: str) -> Path:
        """A file. of: `REFERENCE` or `sample_folder(K)`.    kind: of `KINDS`."""
        return self.folder / of / kind / (name + SUFFIX[kind])

    def left_out(self) -> dict[str, str]:
        """Why recordings gave no clip, by name."""
        return {path.stem: path.read_text(encoding="utf-8") for path in sorted((self.folder / LEFT_OUT).glob("*.txt"))}

    def check_complete(self) -> None:
        """Raises InputError if clips are still to be made."""
        wanted = [item for item in self.items if not (self.folder / LEFT_OUT / f"{item.name}.txt").exists()]
        places = [REFERENCE, *map(sample_folder, range(self.samples))]
        missing = sum(not self.path(of, KINDS[-1], item.name).exists() for item in wanted for of in places)
        if missing:
            raise InputError(
                f"{self.folder}: {missing} of {len(wanted) * len(places)} clips are missing; give the command that "
                "began it again, with every --part"
            )


def sample_folder(sample: int) -> str:
    """The folder of the clips with the seed of this number."""
    return f"sample-{sample}"


def seed_of(name: str, sample: int, seed: int = 0) -> int:
    """The seed of a clip: it follows from the name of its files and the number of the sample alone."""
    digest = hashlib.sha256(f"{seed}\0{name}\0{sample}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def list_items(recordings: Sequence[Recording], places: int = 1) -> list[Item]:
    """The clips of these recordings, so many of each. Raises InputError if two would have files of one name."""
    items: dict[str, Item] = {}
    for recording in recordings:
        stem = recording.name.rpartition(".")[0] or recording.name
        for place in range(places):
            name = stem.replace("/", "__") + (f"-{place}" if places > 1 else "")
            if name in items:
                other = items[name].recording
                raise InputError(f"{recording.name} and {other}: their clips would have one name, {name}; rename one")
            items[name] = Item(name, recording.name, place, recording.caption)
    return list(items.values())


def begin_set(folder: Path, items: Sequence[Item], settings: Mapping[str, Any]) -> PairedSet:
    """Makes the folder of a test set, or finds it as it was begun. settings: with `samples`.

    Raises InputError if its clips were made with other settings, or of other recordings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = {"settings": dict(settings), "items": [vars(item) for item in items]}
    if (folder / MANIFEST).exists():
        there = PairedSet.read(folder)
        known = json.loads(json.dumps(described["settings"]))
        changed = [name for name in {**known, **there.settings} if known.get(name) != there.settings.get(name)]
        if changed:
            shown = ", ".join(f"{name} {there.settings.get(name)!r} (now {known.get(name)!r})" for name in changed)
            raise InputError(f"{folder}: its clips were made with {shown}; name another folder")
        if there.items != list(items):
            raise InputError(f"{folder}: was begun with other recordings; name another folder")
        return there
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("name", "caption"))
    writer.writerows((item.name, item.caption) for item in items)
    with whole_file(folder / CAPTIONS) as partial:
        partial.write_text(table.getvalue(), encoding="utf-8")
    write_json(folder / MANIFEST, described)
    return PairedSet.read(folder)


def generate_set(
    pipe: JointDiTPipeline,
    recordings: Sequence[Recording],
    folder: PairedSet,
    shape: ClipShape,
    sampling: SamplingSettings,
    captions: bool = False,
    batch: int = 4,
    part: int = 0,
    parts: int = 1,
    progress: Progress = lambda done, total: None,
) -> None:
    """Makes what is missing of a test set: what was recorded, and the model's clips on the first pictures of it.

    captions: give the model the captions too.
    batch: clips that are generated at once; it changes them by rounding alone.
    part: only recordings whose `part_of` is this one of `parts`, so that processes share the work.
    A recording that cannot be used is left out, and its reason written down.
    """
    seed = folder.settings["seed"]
    mine = [recording for recording in recordings if part_of(recording.name, parts) == part]
    items = {recording.name: [item for item in folder.items if item.recording == recording.name] for recording in mine}
    waiting: list[tuple[Item, int, np.ndarray]] = []

    def generate() -> None:
        clips = pipe(
            [picture for _, _, picture in waiting],
            [item.caption if captions else None for item, _, _ in waiting],
            frames=shape.frames,
            fps=shape.fps,
            height=shape.height,
            width=shape.width,
            settings=sampling,
            generator=[torch.Generator().manual_seed(seed_of(item.name, sample, seed)) for item, sample, _ in waiting],
        )
        for (item, sample, _), clip in zip(waiting, clips, strict=True):
            _write(folder, sample_folder(sample), item.name, clip)
        waiting.clear()

    for done, recording in enumerate(mine):
        progress(done, len(mine))
        places = [REFERENCE, *map(sample_folder, range(folder.samples))]
        if all(folder.path(of, KINDS[-1], item.name).exists() for item in items[recording.name] for of in places):
            continue
        try:
            clips = take_clips(recording, shape, pipe.layout.sample_rate, len(items[recording.name]))
        except InputError as error:
            for item in items[recording.name]:
                _leave_out(folder, item.name, str(error))
            continue
        for item, clip in zip(items[recording.name], clips, strict=True):
            (folder.folder / LEFT_OUT / f"{item.name}.txt").unlink(missing_ok=True)
            if not folder.path(REFERENCE, KINDS[-1], item.name).exists():
                _write(folder, REFERENCE, item.name, clip)
            for sample in range(folder.samples):
                if not folder.path(sample_folder(sample), KINDS[-1], item.name).exists():
                    waiting.append((item, sample, clip.frames[0]))
                    if len(waiting) == batch:
                        generate()
    if waiting:
        generate()
    progress(len(mine), len(mine))


def _write(folder: PairedSet, of: str, name: str, clip: Clip) -> None:
    """The clip in all three kinds."""
    for kind in KINDS:
        path = folder.path(of, kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "audio":
            with whole_file(path) as partial:
                write_wav(partial, clip.audio, clip.sample_rate)
        elif kind == "video":
            Clip(clip.frames, clip.fps, np.zeros((1, 0), np.float32), clip.sample_rate).save(path)
        else:
            clip.save(path)


def _leave_out(folder: PairedSet, name: str, reason: str) -> None:
    path = folder.folder / LEFT_OUT / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(reason, encoding="utf-8")
