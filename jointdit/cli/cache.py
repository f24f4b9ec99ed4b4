"""`jointdit cache`: a folder of sounding videos becomes latents to train on."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..datasets.splits import SPLITS
from ..errors import InputError
from .models import DEVICE, MODEL_OPTIONS, check_model, choose_device, load_model
from .options import FPS, FRAMES, SIZE, Option, add_options, one_of, read_options, whole

SHOWN = 10  # files left out that are listed


def part(text: str) -> tuple[int, int]:
    """Reads K/N."""
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise ValueError("must be K/N with K from 0 to N - 1, for example 0/4")
    return int(number), int(count)


OF_MODEL = ("model", "video-expert", "audio-expert", "expert-frames")  # the rest decides no latent
OPTIONS = (
    *(option for option in MODEL_OPTIONS if option.name in OF_MODEL),
    Option("layout", "NAME", str, "classes (default), csv, synth, avsync15, landscape, vggsound or greatest-hits"),
    Option("split", "NAME", one_of(*SPLITS), "of a published set: only train, validation or test"),
    Option("limit", "N", whole(1, 10**9), "at most N of the files, drawn by their names; a higher one adds to them"),
    FRAMES,
    FPS,
    SIZE,
    Option("part", "K/N", part, "encode the K-th of N shares of the files, K from 0 on; N processes share the work"),
    Option("workers", "N", whole(0, 256), "threads that decode ahead of the device (default: one a core, at most 8)"),
    Option("shard-size", "MIB", whole(1, 2**20), "MiB of latents in a file of the cache (default 256)"),
    Option("json", "FILE", Path, "with --report: write it to a file too"),
    DEVICE,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = (
        "Cut sounding videos into clips and keep their latents. Files that are broken, silent or without sound are "
        "listed and left out. To continue after a stop, give the same command again; files that changed are tried "
        "again. `jointdit cache CACHE --report` says what is in a cache."
    )
    parser = commands.add_parser("cache", help="make latents of videos, to train on", description=text)
    parser.add_argument("videos", metavar="DIR", type=Path, help="folder of videos")
    cache = "folder for the latents; made if there is none"
    parser.add_argument("cache", metavar="CACHE", type=Path, nargs="?", help=cache)
    add_options(parser, OPTIONS)
    report = "say what is in the cache; with one folder, CACHE, nothing else is done"
    parser.add_argument("--report", action="store_true", help=report)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Fills the cache and prints what was left out, and why; prints the report."""
    options = read_options(OPTIONS, arguments)
    if arguments.cache is None and not arguments.report:
        raise InputError("name two folders, DIR and CACHE: that of the videos and one for the latents")
    if options["json"] and not arguments.report:
        raise InputError("--json goes with --report")
    if arguments.cache is not None:
        _fill(arguments, options)
    if arguments.report:
        _report(arguments.cache or arguments.videos, options["json"])


def _fill(arguments: argparse.Namespace, options: Mapping[str, Any]) -> None:
    check_model(options)

    from .progress import Progress, hushed

    width, height = options["size"] or (None, None)
    number, count = options["part"] or (0, 1)
    workers, mebibytes = options["workers"], options["shard_size"]
    with hushed(), Progress(arguments.quiet) as progress:
        import torch

        from ..datasets.recordings import find_recordings
        from ..train.decoding import WORKERS
        from ..train.write_cache import SHARD_BYTES, write_cache

        layout, split = options["layout"] or "classes", options["split"]
        recordings = find_recordings(arguments.videos, layout, split, options["limit"])
        pipe = load_model(options, torch.float32)
        pipe.to(choose_device(options["device"]))
        shape = pipe.shape(options["frames"], options["fps"], height, width)
        written = write_cache(
            pipe,
            recordings,
            arguments.cache,
            shape,
            number,
            count,
            shard_bytes=SHARD_BYTES if mebibytes is None else mebibytes * 2**20,
            workers=WORKERS if workers is None else workers,
            progress=lambda done, total: progress("cache", done, total),
            split=split,
        )
    if split is None and (splits := Counter(each.split for each in recordings if each.split)):
        shown = ", ".join(f"{count} of {name}" for name, count in sorted(splits.items()))
        print(f"all splits of the set are in this cache ({shown}); --split train leaves the others out")
    _list_left_out(list(written.skipped.values()))
    if not written.measured:
        packages = "scipy scikit-image scikit-learn matplotlib"
        print(f'clips are not measured; that takes: "{sys.executable}" -m pip install {packages}')
    if written.skipped and not written.clips:
        raise InputError(f"{arguments.videos}: not one clip could be used")
    print(f"{arguments.cache}: {written.clips} clips of {written.files} files")


def _list_left_out(reasons: Sequence[str]) -> None:
    for reason in reasons[:SHOWN]:
        print(f"left out: {reason}")
    if len(reasons) > SHOWN:
        print(f"left out: {len(reasons) - SHOWN} more")


def _report(folder: Path, file: Path | None) -> None:
    from ..media.files import refuse_sources, target_file, write_json
    from ..train.cache import CONFIG
    from ..train.cache_index import INDEX, LEFT_OUT, SHARDS
    from ..train.cache_report import report_cache

    if file is not None:
        target_file(file)
        refuse_sources(file, [folder / CONFIG, folder / INDEX, *folder.glob(SHARDS), *folder.glob(LEFT_OUT)])
    report = report_cache(folder)
    print("\n".join(report.lines()))
    _list_left_out(list(report.left_out.values()))
    if file is not None:
        write_json(file, asdict(report))
