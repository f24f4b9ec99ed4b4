"""`jointdit cache`: a folder of sounding videos becomes latents to train on."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from .options import FPS, FRAMES, SIZE, Option, add_options, device_name, model_name, read_options

SHOWN = 10  # files left out that are listed


def part(text: str) -> tuple[int, int]:
    """Reads K/N."""
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise ValueError("must be K/N with K from 0 to N - 1, for example 0/4")
    return int(number), int(count)


OPTIONS = (
    Option("model", "NAME", model_name, "the model that will be trained (default tiny)"),
    Option("video-expert", "PATH", model_name, "Stable Video Diffusion instead: svd.safetensors or a folder"),
    Option("audio-expert", "PATH", model_name, "AudioLDM2, to go with it: a folder in diffusers' layout"),
    Option("layout", "NAME", str, "classes (default), csv, synth, avsync15, landscape, vggsound or greatest-hits"),
    FRAMES,
    FPS,
    SIZE,
    Option("part", "K/N", part, "encode every N-th file, from number K on; N processes share the work"),
    Option("device", "NAME", device_name, "cpu, cuda, cuda:1, mps (default: cuda if there is one, else cpu)"),
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = (
        "Cut sounding videos into clips and keep their latents. Files that are broken, silent or without sound are "
        "listed and left out. To continue after a stop, give the same command again."
    )
    parser = commands.add_parser("cache", help="make latents of videos, to train on", description=text)
    parser.add_argument("videos", metavar="DIR", type=Path, help="folder of videos")
    parser.add_argument("cache", metavar="CACHE", type=Path, help="folder for the latents; made if there is none")
    add_options(parser, OPTIONS)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Fills the cache and prints what was left out, and why."""
    options = read_options(OPTIONS, arguments)
    experts = options["video_expert"], options["audio_expert"]
    if any(experts) and (options["model"] or not all(experts)):
        raise InputError("give --video-expert and --audio-expert together, or --model instead of both")

    from ..pipeline import JointDiTPipeline
    from ..train.cache import write_cache
    from ..train.recordings import find_recordings
    from .generate import choose_device
    from .progress import Progress, hushed

    recordings = find_recordings(arguments.videos, options["layout"] or "classes")
    width, height = options["size"] or (None, None)
    number, count = options["part"] or (0, 1)
    with hushed(), Progress(arguments.quiet) as progress:
        if all(experts):
            pipe = JointDiTPipeline.from_experts(*experts)
        else:
            pipe = JointDiTPipeline.from_pretrained(options["model"] or "tiny")
        pipe.to(choose_device(options["device"]))
        shape = pipe.shape(options["frames"], options["fps"], height, width)
        written = write_cache(
            pipe, recordings, arguments.cache, shape, number, count,
            progress=lambda done, total: progress("cache", done, total),
        )  # fmt: skip
    for reason in list(written.skipped.values())[:SHOWN]:
        print(f"left out: {reason}")
    if len(written.skipped) > SHOWN:
        print(f"left out: {len(written.skipped) - SHOWN} more")
    if not written.clips:
        raise InputError(f"{arguments.videos}: not one clip could be used")
    print(f"{arguments.cache}: {written.clips} clips of {len(recordings[number::count]) - len(written.skipped)} files")
