"""Where a clip goes: its file, what stands beside it, and what the file says about how it was made."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..version import __version__
from .jobs import Job

if TYPE_CHECKING:
    from ..latents import ClipShape
    from ..media import Clip
    from ..pipeline import LongClip

STANDARD_OUTPUT = Path("-")
SUFFIXES = (".mp4", ".webm", ".gif", ".webp")
# Options that say where things go or are computed, not what the clip is.
NOT_OF_THE_CLIP = frozenset(
    "output format wav silent-video seeds prompts batch device expandable-segments compile channels-last "
    "audio-stream".split()
)


def clip_suffix(options: Mapping[str, Any]) -> str:
    """The ending of what is written, where the name of the output does not give it."""
    return f".{options['format'] or 'mp4'}"


def check_output(options: Mapping[str, Any], many: bool) -> None:
    """Raises InputError where nothing could be written."""
    from ..media import check_clip_path
    from ..media.files import target_file
    from ..media.loudness import check_loudness

    output = options["output"]
    if options["loudness"] is not None:
        if options["gain"] is not None:
            raise InputError(f"--gain {options['gain']:g} and --loudness {options['loudness']:g}: give one of them")
        check_loudness()
    if many:
        if output == STANDARD_OUTPUT or output.suffix.lower() in SUFFIXES:
            asking = f" by {options['image'][0]}" if options["image"] else ""
            raise InputError(f"-o {output}: several clips are asked for{asking}; name a folder for them")
    elif options["format"] and output != STANDARD_OUTPUT:
        raise InputError(f"--format {options['format']}: goes with a folder of clips or -o -; end the name with it")
    elif output == STANDARD_OUTPUT:
        if sys.stdout.isatty():
            raise InputError("-o -: standard output is a terminal; send it on, for example to a file with > clip.mp4")
        if options["wav"] or options["silent_video"]:
            raise InputError("-o -: --wav and --silent-video stand beside a file; name one")
    elif output.suffix.lower() in (".gif", ".webp"):
        target_file(output)
    elif output.suffix.lower() not in SUFFIXES:
        known = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise InputError(f"{output}: clips are written as {known}, not {output.suffix!r}; change the ending")
    else:
        check_clip_path(output)


@contextmanager
def folder_of_clips(folder: Path) -> Iterator[None]:
    """Makes the folder, and takes it away again if this was stopped or failed before anything came to be in it."""
    alone = not folder.exists() and int(os.environ.get("WORLD_SIZE", "1")) == 1  # others may still write into it
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if alone:
            with suppress(OSError):  # it has clips
                folder.rmdir()
        raise


def recipe_of(options: Mapping[str, str], job: Job) -> str:
    """What a file says about how it was made: the options of the clip as texts, with paths as they were given."""
    from ..media.recipe import recipe_text

    texts = {name: text for name, text in options.items() if name not in NOT_OF_THE_CLIP}
    texts = texts | {"prompt": job.prompt or "", "seed": str(job.seed)}
    texts["image"] = os.path.normpath(job.picture) if job.picture else ""
    return recipe_text(__version__, {name: text for name, text in texts.items() if text.strip()})


def write_outputs(clip: Clip | LongClip, job: Job, options: Mapping[str, Any], comment: str | None) -> ClipShape:
    """Writes the clip and what stands beside it; the clip itself last, so that it is only there with the others. A long
    clip goes into its file as it is made where nothing else is asked of it.

    Returns the shape of the clip.
    """
    from dataclasses import replace

    import numpy as np

    from ..media.files import whole_file
    from ..media.loudness import with_gain, with_loudness
    from ..media.sound import write_wav
    from ..pipeline import LongClip

    shape = clip.shape
    if isinstance(clip, LongClip):
        asked = [options[name] is not None for name in ("gain", "loudness", "wav", "silent_video")]
        if job.output.suffix.lower() in (".mp4", ".webm") and not any(asked):
            clip.save(job.output, comment=comment)
            return shape
        clip = clip.read()
    if options["gain"] is not None:
        clip = replace(clip, audio=with_gain(clip.audio, options["gain"]))
    if options["loudness"] is not None:
        clip = replace(clip, audio=with_loudness(clip.audio, clip.sample_rate, options["loudness"]))
    if job.output == STANDARD_OUTPUT:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"clip{clip_suffix(options)}"
            _write(clip, path, comment)
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return shape
    if options["wav"]:
        with whole_file(job.output.with_suffix(".wav")) as partial:
            write_wav(partial, clip.audio, clip.sample_rate)
    if options["silent_video"]:
        video = job.output.suffix if job.output.suffix.lower() in (".mp4", ".webm") else ".mp4"
        silent = replace(clip, audio=np.zeros((1, 0), np.float32))
        _write(silent, job.output.with_name(f"{job.output.stem}_silent{video}"), comment)
    _write(clip, job.output, comment)
    return shape


def _write(clip: Clip, path: Path, comment: str | None) -> None:
    from ..media.animation import CLOCK, write_animation

    if path.suffix.lower() in CLOCK:
        write_animation(path, clip.frames, clip.fps, comment)
    else:
        clip.save(path, comment=comment)
