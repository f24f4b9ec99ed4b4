"""`jointdit generate`: a picture becomes a sounding clip."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..options import CLIP, MEMORY, OUTPUT, PRECISION, SAMPLING, SPEED
from . import jobs as job_lists
from .batches import fitting_batch, run_batches
from .jobs import Job, asks_for_many, list_jobs, read_seeds
from .making import Maker, check_given, set_up
from .models import DEVICE, MODEL_OPTIONS, allow_growing_blocks, check_model, choose_device, load_model
from .options import (
    Option,
    add_options,
    declared,
    one_of,
    read_config,
    read_files,
    read_options,
    texts_of,
    whole,
    yes_or_no,
)
from .outputs import STANDARD_OUTPUT, check_output, clip_suffix, folder_of_clips, recipe_of, write_outputs
from .settings import guidance_options, memory_settings

if TYPE_CHECKING:
    import numpy as np

    from ..latents import ClipShape
    from ..media import Clip
    from ..pipeline import LongClip
    from .progress import Progress

# Packages that diffusers and transformers import where they are installed, and that make no clip.
UNUSED = ("bitsandbytes", "matplotlib", "pandas", "peft", "scipy", "sklearn", "torchao")
SAMPLE = Path(__file__).parents[1] / "assets" / "sample.jpg"

OPTIONS = (
    Option(
        "image",
        "PHOTO",
        Path,
        "the picture; one of the project's own if left out. Several, folders or patterns make a folder of clips",
        positional=True,
        many=True,
    ),
    Option("video", "FILE", Path, "give this video a sound, instead of moving a picture; it keeps its frames"),
    Option("audio", "FILE", Path, "move the picture to this sound, which is kept"),
    Option(
        "output", "FILE", Path, "the clip (.mp4, .webm, .gif, .webp, or - for standard output), or a folder (required)"
    ),
    Option("format", "NAME", one_of("mp4", "webm", "gif", "webp"), "of clips in a folder, or of - (default mp4)"),
    Option("wav", "", yes_or_no, "also write the sound as .wav beside the clip", flag=True),
    Option("silent-video", "", yes_or_no, "also write the video without sound beside the clip", flag=True),
    *declared(*OUTPUT),
    Option("seeds", "LIST", read_seeds, "a clip for each seed: 1,2,3, or 4x: four from --seed (or 0) on"),
    Option("prompts", "FILE", Path, "a clip for each line, or for each row of a .csv: picture, prompt, seed"),
    Option("batch", "N", whole(1, 1024), "clips that are made at once (default: as memory allows)"),
    *MODEL_OPTIONS,
    *declared(*CLIP, *SAMPLING),
    DEVICE,
    *declared(*PRECISION, *MEMORY, *SPEED),
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = "Turn a picture into a video with its own sound. What is left out is the model's default."
    parser = commands.add_parser(
        "generate", help="turn a picture into a sounding clip", description=text, allow_abbrev=False
    )
    add_options(parser, OPTIONS)
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file with any of the options above")
    parser.add_argument("--like", metavar="CLIP", type=Path, help="take the options that made this clip, where none is")
    parser.add_argument("--no-metadata", action="store_true", help="do not write into the file how it was made")
    parser.add_argument("--download", action="store_true", help="allow models to be fetched from the Hugging Face Hub")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Checks what can be checked, makes the clips, writes each, and prints one line about it."""
    texts = _given_texts(arguments)
    options = read_options(OPTIONS, arguments, texts)
    if options["output"] is None:
        raise InputError("--output is missing; name the clip, for example -o clip.mp4")
    check_model(options)
    if options["expandable_segments"]:
        allow_growing_blocks()
    seed = _seed(options)
    many = asks_for_many(options)
    check_output(options, many)
    check_given(options)

    from ..media.files import refuse_sources

    with folder_of_clips(options["output"]) if many else nullcontext():
        if many:
            jobs = job_lists.own_share(list_jobs(options, seed, clip_suffix(options)))
        else:
            picture = options["image"][0] if options["image"] else None
            jobs = job_lists.own_share([Job(picture, options["prompt"], seed, options["output"])])
        read = read_files(options, arguments.config, arguments.like, options["prompts"])
        for job in jobs:
            refuse_sources(job.output, [*read, *filter(None, [job.picture])])
        _Run(arguments, options, texts).make(jobs, many)


def unused(arguments: argparse.Namespace) -> Iterable[str]:
    """Packages that this run of the command does not need."""
    return UNUSED if arguments.loudness is None and arguments.config is None else ()


def _given_texts(arguments: argparse.Namespace) -> dict[str, str]:
    """What is asked, as texts by option name: of the command line, else the configuration, else the clip to be like."""
    texts: dict[str, str] = {}
    if arguments.like:
        from ..media.recipe import read_recipe

        texts |= texts_of(arguments.like, read_recipe(arguments.like), OPTIONS)
    if arguments.config:
        texts |= read_config(arguments.config, OPTIONS)
    named = {option.name: getattr(arguments, option.key) for option in OPTIONS if not option.many}
    return texts | {name: text for name, text in named.items() if text is not None}


def _seed(options: Mapping[str, Any]) -> int:
    if options["seed"] is not None:
        return options["seed"]
    return secrets.randbelow(2**32)


class _Run:
    """One run of the command. The model is loaded once, when the first clip is to be made."""

    def __init__(self, arguments: argparse.Namespace, options: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        self.options, self.texts = options, texts
        self.quiet, self.debug, self.download = arguments.quiet, arguments.debug, arguments.download
        self.metadata = not arguments.no_metadata

    def make(self, jobs: Sequence[Job], many: bool) -> None:
        """Makes the clips that are not there yet. Raises InputError where one of them could not be made."""
        from .progress import Progress, hushed

        waiting = [job for job in jobs if not (many and job.output.exists())]
        if len(waiting) < len(jobs):
            print(f"{self.options['output']}: {len(jobs) - len(waiting)} of {len(jobs)} clips were there already")
        if not waiting:
            return
        with nullcontext() if self.debug else hushed(), Progress(self.quiet) as progress:
            if many:
                self._make_many(waiting, progress)
                return
            (job,) = waiting
            pictures = self._pictures(waiting)
            self._load(progress)
            clip = self.maker.one(job, pictures[0] if pictures else None, progress)
            said = self._keep(job, clip)  # a long clip is made while it is written
        self._say(job, said)

    def _make_many(self, jobs: Sequence[Job], progress: Progress) -> None:
        self._load(progress)
        done = 0

        def within(stage: str, step: int, steps: int) -> None:
            progress("clips", done, len(jobs), f"{stage} {step}/{steps}")

        def finished(count: int) -> None:
            nonlocal done
            done = count
            progress("clips", done, len(jobs))

        def keep(job: Job, clip: Clip | LongClip) -> None:
            said = self._keep(job, clip)
            with progress.paused():
                self._say(job, said)

        def make(group: Sequence[Job]) -> Sequence[Clip | LongClip]:
            pictures = self._pictures(group)
            if self.maker.one_by_one:
                return [self.maker.one(group[0], pictures[0] if pictures else None, within)]
            return self.maker.batch(group, pictures, within)

        batch = self.options["batch"] or fitting_batch(self.maker.pipe, self.maker.shape, self.device)
        progress("clips", 0, len(jobs))
        outcome = run_batches(jobs, 1 if self.maker.one_by_one else batch, make, keep, finished)
        if outcome.failures:
            listed = "".join(f"\n{job.output}: {told}" for job, told in outcome.failures)
            print(f"not made:{listed}", file=sys.stderr)
            raise InputError(
                f"{len(outcome.failures)} of {len(jobs)} clips were not made; the same command tries them again"
            )

    def _load(self, progress: Callable[[str, int, int], None]) -> None:
        import torch

        options = self.options
        self.device = choose_device(job_lists.own_device(options["device"]))
        for read in (guidance_options, memory_settings):
            read(options)  # checked before a model is loaded
        progress("load", 0, 1)
        pipe = load_model(options, getattr(torch, options["dtype"] or "float32"), self.download)
        self.maker = Maker(set_up(pipe, options, self.device), options)
        progress("load", 1, 1)

    def _pictures(self, jobs: Sequence[Job]) -> list[np.ndarray]:
        from ..media import read_image
        from .progress import hushed_decoders

        with hushed_decoders():
            return [] if self.options["video"] else [read_image(job.picture or SAMPLE) for job in jobs]

    def _keep(self, job: Job, clip: Clip | LongClip) -> ClipShape:
        """Writes a clip; the shape of what was written."""
        return write_outputs(clip, job, self.options, recipe_of(self.texts, job) if self.metadata else None)

    def _say(self, job: Job, shape: ClipShape) -> None:
        print(
            f"{job.output}: {shape.frames} frames, {float(shape.fps):.6g} fps, {shape.width}x{shape.height}, "
            f"{float(shape.seconds):.3f} s, seed {job.seed}",
            file=sys.stderr if job.output == STANDARD_OUTPUT else sys.stdout,
        )
