"""The options that name a model, which several commands share: a whole model or two experts, and what was trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import Option, device_name, model_name, number, one_of, whole

if TYPE_CHECKING:
    import torch

    from ..pipeline import JointDiTPipeline

DEFAULT_MODEL = "tiny"
EXPERTS = ("video_expert", "audio_expert")

MODEL_OPTIONS = (
    Option(
        "model",
        "NAME",
        model_name,
        "tiny (the default, built in), a model folder, or a name on the Hub that is cached",
    ),
    Option("video-expert", "PATH", model_name, "Stable Video Diffusion instead: svd.safetensors or a folder"),
    Option("audio-expert", "PATH", model_name, "AudioLDM2, to go with it: a folder in diffusers' layout"),
    Option("expert-frames", "N", whole(2, 1000), "frames that a single-file expert is for, if its name does not tell"),
    Option("joint", "FILE", Path, "trained Joint Blocks for the model; identity: none, and each expert works alone"),
    Option("adapters", "DIR", Path, "low-rank adapters of the experts, as stage b of training writes them"),
    Option("video-lora", "FILE", Path, "a LoRA of Stable Video Diffusion for the video expert"),
    Option("lora-strength", "S", number(-10, 10), "how strongly it changes the video expert (default 1)"),
    Option("audio-heads", "WHOSE", one_of("published", "authors"), "attention heads of AudioLDM2 (default published)"),
)
DEVICE = Option("device", "NAME", device_name, "cpu, cuda, cuda:1, mps (default: cuda if there is one, else cpu)")


def model_places() -> tuple[Path, ...]:
    """Folders in which model folders are looked for that nobody named."""
    return Path.cwd(), Path.cwd() / "models"


def check_model(options: Mapping[str, Any]) -> None:
    """A whole model or two experts: not both, and neither of the two alone."""
    frames = options["expert_frames"]
    if frames and Path(options["video_expert"] or "").suffix != ".safetensors":
        raise InputError(f"--expert-frames {frames}: goes with a single file as --video-expert only; leave it out")
    strength = options.get("lora_strength")
    if strength is not None and not options.get("video_lora"):
        raise InputError(f"--lora-strength {strength:g}: goes with --video-lora only; leave it out")
    given = [name for name in (*EXPERTS, "audio_heads") if options.get(name)]
    if given and options["model"]:
        raise InputError(f"--model {options['model']} and --{given[0].replace('_', '-')}: give one of them")
    for name in EXPERTS:
        if given and not options[name]:
            other = f"--{given[0].replace('_', '-')} {options[given[0]]}"
            raise InputError(f"--{name.replace('_', '-')} is missing; {other} needs both experts")


def load_model(options: Mapping[str, Any], dtype: torch.dtype, download: bool = False) -> JointDiTPipeline:
    """The model that the options name. download: allow it to be fetched from the Hugging Face Hub."""
    pipe = _load(options, dtype, download)
    if lora := options.get("video_lora"):
        strength = options.get("lora_strength")
        pipe.load_video_lora(lora, 1.0 if strength is None else strength)
    return pipe


def _load(options: Mapping[str, Any], dtype: torch.dtype, download: bool) -> JointDiTPipeline:
    from ..pipeline import JointDiTPipeline

    joint, adapters = options.get("joint"), options.get("adapters")
    joint = str(joint) if joint else None
    if not options["video_expert"]:
        return JointDiTPipeline.from_pretrained(options["model"] or DEFAULT_MODEL, dtype, not download, joint, adapters)
    return JointDiTPipeline.from_experts(
        options["video_expert"],
        options["audio_expert"],
        joint,
        dtype,
        local_files_only=not download,
        frames=options["expert_frames"],
        audio_heads=options.get("audio_heads") or "published",
        adapters=adapters,
    )


def choose_device(name: str | None) -> torch.device:
    """The device of this name; without one, CUDA if it is there, else the CPU."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the second: torch was built without CUDA
        raise InputError(f"--device {name}: there is none here; leave it out, or use cpu") from error


def allow_growing_blocks() -> None:
    """Lets CUDA's blocks of memory grow, so that free memory breaks up less; what the environment says stands.

    CUDA reads it when it starts, so this comes before anything is computed.
    """
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
