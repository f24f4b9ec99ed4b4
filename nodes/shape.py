"""Widgets of a clip's size, length and rate, and what is wrong with their values."""

from __future__ import annotations

from comfy_api.latest import io

from ..jointdit.errors import InputError
from ..jointdit.media import exact_fps

STEP = 8  # pixels of a side of a video latent, of every model so far
MAX_SIDE, MAX_FRAMES, MAX_FPS = 4096, 1000, 240


def shape_inputs() -> list[io.Input]:
    """width, height, frames and fps; 0 is the model's own."""
    return [
        _size("width"),
        _size("height"),
        io.Int.Input(
            "frames",
            default=0,
            min=0,
            max=MAX_FRAMES,
            tooltip="Number of frames of the clip. 0: the model's own (tiny: 20).",
        ),
        io.Float.Input(
            "fps",
            default=0.0,
            min=0.0,
            max=MAX_FPS,
            step=0.001,
            tooltip="Frames in a second; the sound lasts frames / fps. 0: the model's own (tiny: 12.5).",
        ),
    ]


def shape_complaint(width: int | None, height: int | None, frames: int | None, fps: float | None) -> str | None:
    """What is wrong with the values, and the remedy; a value that is known only later is None."""
    for name, side in (("width", width), ("height", height)):
        if side is not None and (side % STEP or not 0 <= side <= MAX_SIDE):
            nearest = min(max(round(side / STEP) * STEP, STEP), MAX_SIDE)
            return f"{name} is {side}, but must be a multiple of {STEP} up to {MAX_SIDE}; use {nearest}, or 0"
    if frames is not None and (frames == 1 or not 0 <= frames <= MAX_FRAMES):
        return f"frames is {frames}, but must be from 2 to {MAX_FRAMES}, or 0 for the model's own"
    if fps:
        try:
            exact_fps(fps)
        except InputError as error:
            return f"{error}; 0 is the model's own"
    return None


def _size(name: str) -> io.Int.Input:
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=MAX_SIDE,
        step=STEP,
        tooltip=f"{name.capitalize()} of the video in pixels, a multiple of {STEP}. 0: the model's own (tiny: 128).",
    )
