"""Which clips a command is to make: pictures, prompts and seeds, each clip with a file of its own."""

from __future__ import annotations

import csv
import glob
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import InputError
from .options import whole

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".tga", ".jp2")
COLUMNS = ("picture", "prompt", "seed")
MOST = 100_000  # clips of one command
SEED = whole(0, 2**64 - 1)


@dataclass(frozen=True)
class Job:
    """One clip. picture: None is the project's own, or none beside a given video.    output: its file."""

    picture: Path | None
    prompt: str | None
    seed: int
    output: Path


@dataclass(frozen=True)
class Row:
    """What a file of prompts asks for; None is what the command line says."""

    picture: Path | None = None
    prompt: str | None = None
    seed: int | None = None


def read_seeds(text: str) -> tuple[int, ...] | str:
    """Reads several seeds, 1,2,3, or how many from --seed on, 4x."""
    try:
        if counted := re.fullmatch(r"(\d{1,6})x", text):
            return f"{whole(1, MOST)(counted[1])}x"
        seeds = tuple(SEED(each.strip()) for each in text.split(","))
    except ValueError:
        raise ValueError(f"must be whole numbers from 0 to {2**64 - 1} as 1,2,3, or how many as 4x") from None
    if len(set(seeds)) < len(seeds):
        raise ValueError("names a seed twice")
    return seeds


def asks_for_many(options: Mapping[str, Any]) -> bool:
    """Whether the form of the command asks for a folder of clips, however many there turn out to be."""
    pictures: Sequence[Path] = options["image"]
    several = len(pictures) > 1 or any(each.is_dir() or _is_pattern(each) for each in pictures)
    return several or options["seeds"] is not None or options["prompts"] is not None


def list_jobs(options: Mapping[str, Any], seed: int, suffix: str) -> list[Job]:
    """The clips of a folder, by name in the order of pictures, prompts and seeds.

    seed: where none is given; with `--seeds 4x` and no `--seed` it is 0.
    suffix: ending of the clips.
    Raises InputError for pictures that are not there, for a bad row, and for two clips of one name.
    """
    pictures = list(_pictures(options["image"]))
    rows = read_rows(options["prompts"]) if options["prompts"] else [Row(prompt=options["prompt"])]
    if pictures and any(row.picture for row in rows):
        raise InputError(f"{options['prompts']}: names pictures, and so does the command line; give them in one place")
    if options["video"] and any(row.picture for row in rows):
        raise InputError(f"{options['prompts']} names pictures, and --video {options['video']}: give one of them")
    seeds = _seeds(options, seed)
    jobs: dict[str, Job] = {}
    source = options["video"] or Path("sample")
    for (number, row), picture in product(enumerate(rows, 1), pictures or [None]):
        place = row.picture or picture
        for each in [row.seed] if row.seed is not None else seeds:
            name = (place or source).stem
            name += f"_prompt{number:0{len(str(len(rows)))}}" if len(rows) > 1 else ""
            name += f"_seed{each}" if options["seeds"] or row.seed is not None else ""
            job = Job(place, row.prompt, each, options["output"] / f"{name}{suffix}")
            if (other := jobs.setdefault(name, job)) is not job:
                raise InputError(f"{other.picture} and {place} would both become {job.output}; rename one of them")
            if len(jobs) > MOST:
                raise InputError(f"more than {MOST} clips are asked for; take fewer seeds or pictures at once")
    return list(jobs.values())


def read_rows(path: Path) -> list[Row]:
    """A prompt a line, or a .csv whose first line names columns: picture, prompt, seed. Pictures are relative to it.

    Raises InputError that names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({str(error.strerror).lower()}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text in UTF-8; save it as such") from error
    if path.suffix.lower() != ".csv":
        rows = [Row(prompt=line.strip()) for line in text.splitlines() if line.strip()]
    else:
        table = csv.DictReader(text.splitlines())
        names = table.fieldnames or ()
        if not names or set(names) - set(COLUMNS):
            raise InputError(f"{path}: the first line names {', '.join(names)}; it may name {', '.join(COLUMNS)}")
        rows = [_row(path, number, each) for number, each in enumerate(table, 2)]
    if not rows:
        raise InputError(f"{path}: there is nothing in this file; write a prompt on each line")
    return rows


def _row(path: Path, number: int, cells: Mapping[str, str | None]) -> Row:
    given = {name: cell.strip() for name, cell in cells.items() if name is not None and cell and cell.strip()}
    if None in cells:
        raise InputError(f"{path}: line {number} has more cells than the first; put texts with commas into quotes")
    try:
        seed = SEED(given["seed"]) if "seed" in given else None
    except ValueError as error:
        raise InputError(f"{path}: line {number}: seed {given['seed']} {error}") from None
    return Row(path.parent / given["picture"] if "picture" in given else None, given.get("prompt"), seed)


def own_share(jobs: Sequence[Job]) -> Sequence[Job]:
    """Every n-th of the clips for one of the n processes that `accelerate launch` or torchrun starts; says so."""
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    share = jobs[rank::processes]
    if processes > 1:
        print(f"process {rank + 1} of {processes}: {len(share)} of {len(jobs)} clips", file=sys.stderr)
    return share


def own_device(name: str | None) -> str | None:
    """The device that is asked for, or else this process's own among several GPUs."""
    import torch

    local = int(os.environ.get("LOCAL_RANK", 0))
    if name is None and local and torch.cuda.device_count() > 1:
        return f"cuda:{local % torch.cuda.device_count()}"
    return name


def _seeds(options: Mapping[str, Any], seed: int) -> Sequence[int]:
    asked = options["seeds"]
    if isinstance(asked, str):
        first = options["seed"] or 0
        return range(first, first + int(asked[:-1]))
    if asked and options["seed"] is not None:
        raise InputError(f"--seed {options['seed']} and --seeds: give one of them, or --seeds 4x for how many")
    return asked or [seed]


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def _pictures(places: Sequence[Path]) -> Iterator[Path]:
    """Files as they are named, the pictures in folders, and what patterns find; each once."""
    seen: set[Path] = set()
    for place in places:
        found = [place]
        if place.is_dir():
            found = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES)
        elif _is_pattern(place):
            found = sorted(Path(path) for path in glob.glob(str(place), recursive=True) if os.path.isfile(path))
        if not found:
            raise InputError(f"{place}: there are no pictures; name files or folders of {', '.join(PICTURES[:4])}")
        for path in found:
            if path not in seen:
                seen.add(path)
                yield path
