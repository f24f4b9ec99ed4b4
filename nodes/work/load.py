"""Folders and files to a model."""

from __future__ import annotations

from pathlib import Path

import torch

from ...jointdit.checkpoints.components import IDENTITY
from ...jointdit.runtime.float8 import store_in_float8
from .memory import ManagedModel, ManagedPipeline, dtype_of, follow_options


def load_model(
    folder: Path,
    joint: Path | str | None,
    adapters: Path | None,
    lora: Path | None,
    lora_strength: float,
    precision: str,
) -> ManagedModel:
    """A whole model. The arguments are those of `JointDiTPipeline.from_pretrained` and `load_video_lora`."""
    with torch.inference_mode(False):
        pipe = ManagedPipeline.from_pretrained(folder, dtype_of(precision), joint=joint, adapters=adapters)
        if lora is not None:
            pipe.load_video_lora(lora, lora_strength)
        return _managed(pipe, joint, precision)


def load_experts(
    video: Path,
    audio: Path,
    joint: Path | str | None,
    adapters: Path | None,
    lora: Path | None,
    lora_strength: float,
    precision: str,
    float8: bool = False,
) -> ManagedModel:
    """Two experts, joined. The arguments are those of `JointDiTPipeline.from_experts`, `load_video_lora` and
    `Memory`."""
    with torch.inference_mode(False):
        pipe = ManagedPipeline.from_experts(video, audio, joint, dtype_of(precision), adapters=adapters)
        if lora is not None:
            pipe.load_video_lora(lora, lora_strength)
        if float8:
            for unet in (pipe.video_unet, pipe.audio_unet):
                store_in_float8(unet)
        return _managed(pipe, joint, precision)


def _managed(pipe: ManagedPipeline, joint: Path | str | None, precision: str) -> ManagedModel:
    if precision == "auto":
        follow_options(pipe)
    return ManagedModel(pipe, identity=joint == IDENTITY)
