"""`jointdit generate`: a picture becomes a sounding clip."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .models import DEVICE, MODEL_OPTIONS, check_model, choose_device, load_model
from .options import (
    FPS,
    FRAMES,
    SEED,
    SIZE,
    Option,
    add_options,
    number,
    one_of,
    read_config,
    read_files,
    read_options,
    whole,
    words,
)

if TYPE_CHECKING:
    from ..diffusion.guidance import JointCFG
    from ..media import Clip
    from ..pipeline import SamplingSettings

SCALE = number(0, 100)
SAMPLE = Path(__file__).parents[1] / "assets" / "sample.jpg"

OPTIONS = (
    Option("image", "PHOTO", Path, "the picture; one of the project's own if left out", positional=True),
    Option("video", "FILE", Path, "give this video a sound, instead of moving a picture; it keeps its frames"),
    Option("audio", "FILE", Path, "move the picture to this sound, which is kept"),
    Option("output", "FILE", Path, "where the clip goes, ending in .mp4 or .webm (required)"),
    *MODEL_OPTIONS,
    Option("prompt", "TEXT", words, "what happens and what is heard"),
    Option("negative-prompt", "TEXT", words, "what should not be heard"),
    SEED,
    Option("steps", "N", whole(1, 999), "denoising steps"),
    FRAMES,
    FPS,
    SIZE,
    Option("fit", "MODE", one_of("cover", "contain", "stretch"), "how a picture of another shape fills the frame"),
    Option("guidance", "MODE", one_of("none", "cfg", "joint-cfg", "joint-cfg-star"), "which predictions are combined"),
    Option("video-scale", "S", SCALE, "how strongly the video obeys the picture; 1 is neutral"),
    Option("audio-scale", "S", SCALE, "how strongly the sound obeys the text; 1 is neutral"),
    Option("joint-scale", "W", SCALE, "how strongly picture and sound agree; 1 is neutral, tiny takes 1 to 4"),
    Option("sync", "S", number(0, 10), "how strongly the sound is pulled to when the picture moves; 0 is off, try 0.5"),
    Option("sampler", "NAME", one_of("euler", "heun", "dpmpp_2m"), "euler (default), heun or dpmpp_2m"),
    Option("fresh-noise", "S", number(0, 1), "share of the video's noise that each step replaces; 0 is plain"),
    Option("video-temperature", "T", number(0, 2), "scale of the video's initial noise; lower is calmer, 1 is plain"),
    Option("audio-substeps", "N", whole(1, 100), "audio steps in each video step"),
    DEVICE,
    Option("dtype", "TYPE", one_of("float32", "float16", "bfloat16"), "numbers to compute with (default float32)"),
    Option("memory", "NAME", one_of("plain", "low", "lowest"), "how far to save memory, at the price of time"),
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = "Turn a picture into a video with its own sound. What is left out is the model's default."
    parser = commands.add_parser(
        "generate", help="turn a picture into a sounding clip", description=text, allow_abbrev=False
    )
    add_options(parser, OPTIONS)
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file with any of the options above")
    parser.add_argument("--download", action="store_true", help="allow models to be fetched from the Hugging Face Hub")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Checks what can be checked, makes the clip, writes it, and prints one line about it."""
    config = read_config(arguments.config, OPTIONS) if arguments.config else {}
    options = read_options(OPTIONS, arguments, config)
    output = options["output"]
    if output is None:
        raise InputError("--output is missing; name the clip, for example -o clip.mp4")
    check_model(options)
    seed = secrets.randbelow(2**32) if options["seed"] is None else options["seed"]

    from ..media import check_clip_path
    from ..media.files import refuse_sources
    from .progress import Progress, hushed

    check_clip_path(output)
    refuse_sources(output, read_files(options, arguments.config))
    given = _given(options)
    with nullcontext() if arguments.debug else hushed(), Progress(arguments.quiet) as progress:
        clip = _make_clip(given, options, seed, arguments.download, progress)
    clip.save(output)
    frames, height, width, _ = clip.frames.shape
    print(
        f"{output}: {frames} frames, {float(clip.fps):.6g} fps, {width}x{height}, "
        f"{float(clip.seconds):.3f} s, seed {seed}"
    )


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The picture to begin with. A video or a sound must be there; how much of it is needed, the model knows."""
    from ..media import read_image
    from ..media.files import source_file
    from .progress import hushed_decoders

    if options["image"] and options["video"]:
        raise InputError(f"PHOTO {options['image']} and --video {options['video']}: give one of them")
    for name in ("video", "audio"):
        if options[name]:
            source_file(options[name])
    if options["video"]:
        return {}
    with hushed_decoders():
        return {"image": read_image(options["image"] or SAMPLE)}


def _recordings(options: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The beginning of a given video or sound."""
    from ..media import read_audio, read_clip
    from ..media.encode import check_channels

    readers = {"video": read_clip, "audio": read_audio}
    found = {name: read(options[name], max_seconds=seconds) for name, read in readers.items() if options[name]}
    if "audio" in found:  # which is kept; that of a video is not
        check_channels(f"--audio {options['audio']}", len(found["audio"][0]))
    return found


def _make_clip(
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    seed: int,
    download: bool,
    progress: Callable[[str, int, int], None],
) -> Clip:
    import torch

    device = choose_device(options["device"])
    asked = guidance_options(options)
    dtype = getattr(torch, options["dtype"] or "float32")
    width, height = options["size"] or (None, None)
    progress("load", 0, 1)
    pipe = load_model(options, dtype, download)
    pipe.set_memory(options["memory"] or "plain", device)
    progress("load", 1, 1)
    shape = pipe.shape(options["frames"], options["fps"], height, width)
    recordings = _recordings(options, float(shape.seconds) + 1)  # the frames of another rate do not end with the clip
    return pipe(
        given.get("image"),
        options["prompt"],
        options["negative_prompt"],
        video=recordings.get("video"),
        audio=recordings.get("audio"),
        frames=options["frames"],
        fps=options["fps"],
        height=height,
        width=width,
        fit=options["fit"] or "cover",
        settings=sampling_settings(options, pipe.guidance.changed(**asked)),
        generator=torch.Generator().manual_seed(seed),
        callback=progress,
    )


def guidance_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of the guidance, checked before a model is loaded."""
    from ..diffusion.guidance import JointCFG

    asked = {
        "mode": options["guidance"],
        "video_scale": options["video_scale"],
        "audio_scale": options["audio_scale"],
        "joint_scale": options["joint_scale"],
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if "mode" in given:
        JointCFG(**given)
    return given


def sampling_settings(options: Mapping[str, Any], guidance: JointCFG) -> SamplingSettings:
    """What was asked of sampling, under this guidance."""
    from ..diffusion.sync_guidance import SyncGuidance
    from ..pipeline import SamplingSettings

    return SamplingSettings().changed(
        steps=options["steps"],
        sampler=options["sampler"],
        guidance=guidance,
        audio_substeps=options["audio_substeps"],
        video_temperature=options["video_temperature"],
        fresh_noise=options["fresh_noise"],
        sync=SyncGuidance(options["sync"]) if options.get("sync") else None,
    )
