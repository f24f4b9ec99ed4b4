"""What travels between the nodes besides ComfyUI's own types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..jointdit.errors import InputError
from ..jointdit.options import words

if TYPE_CHECKING:
    from ..jointdit.pipeline import Conditions
    from ..jointdit.pipeline.windowed import LongPlan

CATEGORY = "JointDiT"
PRECISIONS = ("auto", "float32", "float16", "bfloat16")
OWN_GRID = "model's own"
OWN_SYNC = -1.0
CLIP_KEY = "jointdit_clip"  # in a LATENT: the `ClipShape` of each of its clips
PLAN_KEY = "jointdit_plan"  # in a LATENT of clips of several windows: the `LongPlan` of each

OWN, DEFAULTS = "jointdit_own", "jointdit_defaults"  # what schemas say to web/widgets.js

Model = io.Custom("JOINTDIT_MODEL")  # `memory.ManagedModel`
Prepared = io.Custom("JOINTDIT_CONDITIONS")  # `PreparedClips` or `PreparedLong`
Guide = io.Custom("JOINTDIT_GUIDANCE")  # `JointCFG`
Cache = io.Custom("JOINTDIT_CACHE")  # the folder of a latent cache


@dataclass(frozen=True)
class PreparedClips:
    """Encoded conditions of B clips, and their pictures as small as their latents: float [B, h, w, 3] in 0..1."""

    conditions: Conditions
    pictures: Tensor


@dataclass(frozen=True)
class PreparedLong:
    """The same of B clips that are longer than the model's window.

    clips: of each, the conditions of one group of windows after the other.
    """

    plan: LongPlan
    clips: tuple[tuple[Conditions, ...], ...]
    pictures: Tensor


def model_input() -> io.Input:
    """The model socket of every node that computes."""
    return Model.Input(
        "model", tooltip="From JointDiT Load Model or JointDiT Load Experts; the same for all nodes of a clip."
    )


def seed_input() -> io.Input:
    """The seed of every node that samples."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=2**64 - 1,
        control_after_generate=True,
        tooltip="Fixes everything random: the same number gives the same clip.",
    )


def sampler_input() -> io.Input:
    """The sampler of every node that samples."""
    return io.Combo.Input(
        "sampler",
        options=list(words("sampler")),
        default="euler",
        tooltip="euler is diffusers' own for both experts. dpmpp_2m needs fewer steps. heun computes every "
        "step twice. lcm is for experts that were finetuned to few steps: 4 to 8, on levels of its own.",
    )


def samples_of(latent: Mapping[str, Any], kind: str, channels: int, axes: str) -> Tensor:
    """The tensor of a LATENT. kind: the output of JointDiT Sample that it should come from.

    Raises InputError where its shape is not [frames or clips, channels, axes].
    """
    samples = latent["samples"]
    if samples.ndim != 2 + len(axes.split(", ")) or samples.shape[1] != channels:
        items = {"video": "frames", "audio": "clips"}[kind]
        raise InputError(
            f"{kind} latents have shape {list(samples.shape)}; this model needs [{items}, {channels}, {axes}], the "
            f"{kind} output of JointDiT Sample with the same model"
        )
    return samples


def pixels_of(images: Tensor) -> np.ndarray:
    """An IMAGE [B, H, W, 3 or 4] as uint8 [B, H, W, 3]."""
    return (images[..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy()


def sound_of(audio: Mapping[str, Any]) -> tuple[np.ndarray, int]:
    """The first sound of an AUDIO, float32 [channels, samples], and its rate in Hz."""
    return audio["waveform"][0].float().cpu().numpy(), int(audio["sample_rate"])


def own(
    value: float, field: str | None = None, label: str = "model's own", unless: Sequence[str] = ()
) -> dict[str, Any]:
    """Part of a widget's schema: this number stands for something else, and the page says so in its place
    (web/widgets.js).

    field: of `Defaults`, whose number stands in brackets where the page knows the model.
    unless: inputs that decide instead where one of them is connected.
    """
    return {OWN: {"value": value, "field": field, "label": label, "unless": list(unless)}}
