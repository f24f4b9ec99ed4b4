"""Widgets of a clip's size, length and rate. What does not fit together is said when the node runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.v0_0_2 import io

from ..jointdit.errors import InputError
from ..jointdit.latents import ClipShape
from .sockets import own

if TYPE_CHECKING:
    from ..jointdit.pipeline import JointDiTPipeline

STEP = 16  # pixels: a step of the bundled model's sides, and two of Stable Video Diffusion's
MAX_SIDE, MAX_FRAMES, MAX_FPS = 4096, 1000, 240


def shape_inputs(unasked: str = "the model's own (tiny: 20)") -> list[io.Input]:
    """width, height, frames and fps; 0 is the model's own. unasked: how many frames 0 stands for, in words."""
    return [
        _size("width"),
        _size("height"),
        io.Int.Input(
            "frames",
            default=0,
            min=0,
            max=MAX_FRAMES,
            tooltip=f"Number of frames of the clip, from 2. 0: {unasked}.",
            extra_dict=own(0, "frames", unless=("video", "audio")),
        ),
        io.Float.Input(
            "fps",
            default=0.0,
            min=0.0,
            max=MAX_FPS,
            step=0.001,
            tooltip="Frames in a second; the sound lasts frames / fps. 0: the model's own (tiny: 12.5).",
            extra_dict=own(0, "fps"),
        ),
    ]


def clip_shape(pipe: JointDiTPipeline, width: int, height: int, frames: int, fps: float) -> ClipShape:
    """What the widgets say, 0 as the model's own. Raises InputError where it makes no clip of this model."""
    check_frames(frames)
    return pipe.shape(frames or None, fps or None, height or None, width or None)


def check_frames(frames: int) -> None:
    """Raises InputError for a clip of one frame; 0 is the model's own."""
    if frames == 1:
        raise InputError("frames is 1, but one picture does not move; give at least 2, or 0 for the model's own")


def _size(name: str) -> io.Int.Input:
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=MAX_SIDE,
        step=STEP,
        tooltip=f"{name.capitalize()} of the video in pixels, a multiple of {STEP}. 0: the model's own (tiny: 128).",
        extra_dict=own(0, name),
    )
