"""`jointdit synth`: clips of sounding scenes with exact event times."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import FPS, FRAMES, SEED, SIZE, Option, add_options, read_options, whole

OPTIONS = (
    Option("clips", "N", whole(1, 1_000_000), "how many clips (default 1)"),
    SEED,
    FRAMES,
    FPS,
    SIZE,
    Option("effect", "NAME", str, "only this effect; a wrong name lists them all"),
    Option("photos", "DIR", Path, "folder of pictures to use instead of drawn textures"),
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = "Write sounding scenes with exact event times: an mp4 and a JSON each. The same seed writes the same scenes."
    parser = commands.add_parser(
        "synth", help="write sounding scenes with exact event times", description=text, allow_abbrev=False
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="folder for the clips; made if there is none")
    add_options(parser, OPTIONS)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Writes the clips and prints one line about them."""
    options = read_options(OPTIONS, arguments)

    from ..synthetic import synthesize
    from .progress import Progress

    clips = options.pop("clips") or 1
    seed = options.pop("seed") or 0
    given = {key: value for key, value in options.items() if value is not None}
    with Progress(arguments.quiet) as progress:
        synthesize(arguments.directory, clips, seed, **given, progress=lambda done: progress("clips", done, clips))
    print(f"{arguments.directory}: {clips} clips, seed {seed}")
