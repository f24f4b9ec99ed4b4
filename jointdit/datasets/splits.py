"""The parts that a set is published in: what trains a model, and what judges it.

AVSync15, Landscape and Greatest Hits come with `train.txt` and `test.txt` beside their folder `videos`, a file a line,
below `videos` or below its folder of the split (README.md and avgen/data/utils.py of github.com/lzhangbj/ASVA; the
lists of Greatest Hits itself name identities). Landscape of MM-Diffusion has folders `train` and `test`. VGGSound has
it in the last column of its table (github.com/hche11/VGGSound).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import InputError

SPLITS = ("train", "validation", "test")
ALL = "all"  # what a cache holds that was made of a whole set
LISTS = {"train.txt": "train", "validation.txt": "validation", "val.txt": "validation", "test.txt": "test"}
FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class SplitLists:
    """The lists of a set.

    files: which are there, by the name of each.    splits: of every line, all the splits that list it.
    """

    files: dict[str, Path]
    splits: dict[str, set[str]]

    def find(self, name: str) -> tuple[str, list[str]]:
        """The split of a recording ("" if it is in none) and the lines that list it.

        Raises InputError for one that two splits list.
        """
        if folder := folder_split(name):
            return folder, [key for key in _keys(name) if folder in self.splits.get(key, ())]
        lines = [key for key in _keys(name) if key in self.splits]
        found = sorted({split for line in lines for split in self.splits[line]})
        if len(found) > 1:
            raise InputError(f"{name}: is listed in {' and '.join(found)}; leave it in one of {', '.join(self.files)}")
        return (found[0] if found else ""), lines


def read_lists(folder: Path) -> SplitLists:
    """The lists of splits in a folder of videos, or beside it where it has none."""
    for place in (folder, folder.absolute().parent):
        if files := {name: place / name for name in LISTS if (place / name).is_file()}:
            break
    splits: dict[str, set[str]] = {}
    for name, path in files.items():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip():
                splits.setdefault(line.strip().removeprefix("./"), set()).add(LISTS[name])
    return SplitLists(files, splits)


def folder_split(name: str) -> str:
    """The split that a folder of a recording's path is called by, or ""."""
    return next((FOLDERS[part] for part in PurePosixPath(name).parts[:-1] if part in FOLDERS), "")


def _keys(name: str) -> Iterator[str]:
    """How a list may call a recording: its path from any folder on, with or without the file's ending, or, in Greatest
    Hits, its identity: the date and time before the first underscore."""
    path = PurePosixPath(name)
    for first in range(len(path.parts)):
        end = PurePosixPath(*path.parts[first:])
        yield str(end)
        yield str(end.with_suffix(""))
    if path.stem.count("-") == 5 and "_" in path.stem:
        yield path.stem.split("_")[0]


def held_split(asked: str | None, there: Iterable[str]) -> str | None:
    """What a cache of recordings in these splits holds: what was asked for, or `ALL` if some of them judge models."""
    return asked or (ALL if set(there) & {"validation", "test"} else None)


def refuse_missing(folder: Path, split: str, there: Sequence[str], where: str) -> None:
    """Raises InputError if a set has no recording in `split`.

    there: the splits that it has.    where: what was read to know them.
    """
    if split in there:
        return
    has = f"it has {', '.join(there)}" if there else f"it has none ({where})"
    raise InputError(f"{folder}: no recording is in the split {split}; {has}")
