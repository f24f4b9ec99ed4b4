"""`jointdit generate`: a picture becomes a sounding clip."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import (
    FPS,
    FRAMES,
    SEED,
    SIZE,
    Option,
    add_options,
    device_name,
    model_name,
    number,
    one_of,
    read_config,
    read_options,
    whole,
    words,
)

if TYPE_CHECKING:
    import torch

    from ..diffusion.guidance import JointCFG
    from ..media import Clip
    from ..pipeline import JointDiTPipeline, SamplingSettings

SCALE = number(0, 100)
DEFAULT_MODEL = "tiny"
EXPERTS = ("video_expert", "audio_expert")
SAMPLE = Path(__file__).parents[1] / "assets" / "sample.jpg"

OPTIONS = (
    Option("image", "PHOTO", Path, "the picture; one of the project's own if left out", positional=True),
    Option("video", "FILE", Path, "give this video a sound, instead of moving a picture; it keeps its frames"),
    Option("audio", "FILE", Path, "move the picture to this sound, which is kept"),
    Option("output", "FILE", Path, "where the clip goes, ending in .mp4 or .webm (required)"),
    Option("model", "NAME", model_name, "tiny (the default, built in), a model folder, or with --download a Hub name"),
    Option("video-expert", "PATH", model_name, "Stable Video Diffusion instead: svd.safetensors or a folder"),
    Option("audio-expert", "PATH", model_name, "AudioLDM2, to go with it: a folder in diffusers' layout"),
    Option("expert-frames", "N", whole(2, 1000), "frames that a single-file expert is for, if its name does not tell"),
    Option("joint", "FILE", Path, "trained Joint Blocks for the model; two experts without them each work alone"),
    Option("adapters", "DIR", Path, "low-rank adapters of the experts, as stage b of training writes them"),
    Option("audio-heads", "WHOSE", one_of("published", "authors"), "attention heads of AudioLDM2 (default published)"),
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
    Option("video-temperature", "T", number(0, 2), "scale of the video's initial noise; lower is calmer, 1 is plain"),
    Option("audio-substeps", "N", whole(1, 100), "audio steps in each video step"),
    Option("device", "NAME", device_name, "cpu, cuda, cuda:1, mps (default: cuda if there is one, else cpu)"),
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
    _check_model(options)
    seed = secrets.randbelow(2**32) if options["seed"] is None else options["seed"]

    from ..media import check_clip_path
    from .progress import Progress, hushed

    check_clip_path(output)
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

    if options["image"] and options["video"]:
        raise InputError(f"PHOTO {options['image']} and --video {options['video']}: give one of them")
    for name in ("video", "audio"):
        if options[name]:
            source_file(options[name])
    return {} if options["video"] else {"image": read_image(options["image"] or SAMPLE)}


def _recordings(options: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The beginning of a given video or sound."""
    from ..media import read_audio, read_clip

    readers = {"video": read_clip, "audio": read_audio}
    return {name: read(options[name], max_seconds=seconds) for name, read in readers.items() if options[name]}


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
    pipe = _load(options, dtype, download)
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


def _load(options: Mapping[str, Any], dtype: torch.dtype, download: bool) -> JointDiTPipeline:
    from ..pipeline import JointDiTPipeline

    if not options["video_expert"]:
        model = options["model"] or DEFAULT_MODEL
        return JointDiTPipeline.from_pretrained(model, dtype, not download, options["joint"], options["adapters"])
    return JointDiTPipeline.from_experts(
        options["video_expert"],
        options["audio_expert"],
        options["joint"],
        dtype,
        local_files_only=not download,
        frames=options["expert_frames"],
        audio_heads=options["audio_heads"] or "published",
        adapters=options["adapters"],
    )


def _check_model(options: Mapping[str, Any]) -> None:
    """A whole model or two experts: not both, and neither of the two alone."""
    frames = options["expert_frames"]
    if frames and Path(options["video_expert"] or "").suffix != ".safetensors":
        raise InputError(f"--expert-frames {frames}: goes with a single file as --video-expert only; leave it out")
    given = [name for name in (*EXPERTS, "audio_heads") if options[name]]
    if given and options["model"]:
        raise InputError(f"--model {options['model']} and --{given[0].replace('_', '-')}: give one of them")
    for name in EXPERTS:
        if given and not options[name]:
            other = f"--{given[0].replace('_', '-')} {options[given[0]]}"
            raise InputError(f"--{name.replace('_', '-')} is missing; {other} needs both experts")


def choose_device(name: str | None) -> torch.device:
    """The device of this name; without one, CUDA if it is there, else the CPU."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the second: torch was built without CUDA
        raise InputError(f"--device {name}: there is none here; leave it out, or use cpu") from error


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
        sync=SyncGuidance(options["sync"]) if options.get("sync") else None,
    )
