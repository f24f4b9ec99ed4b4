"""Frames without their sound, looped, for documents: a GIF or an animated WebP."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .files import whole_file
from .recipe import DESCRIPTION

CLOCK = {".gif": 10, ".webp": 1}  # ms: what a frame's duration is a multiple of
QUALITY = 80  # of WebP


def write_animation(path: str | PathLike[str], frames: np.ndarray, fps: Fraction, comment: str | None = None) -> None:
    """Writes uint8 [T, H, W, 3] to a .gif or .webp that repeats for ever. No frame drifts from its time by more than
    half of the format's clock.

    Raises InputError for a path that cannot be written.
    """
    suffix = Path(path).suffix.lower()
    clock = CLOCK[suffix]
    ends = [round(index / fps * 1000 / clock) * clock for index in range(len(frames) + 1)]
    durations = [end - start for start, end in pairwise(ends)]
    first, *others = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    options: dict[str, Any] = {"quality": QUALITY, "method": 4} if suffix == ".webp" else {"optimize": False}
    if comment is not None and suffix == ".webp":
        exif = Image.Exif()
        exif[DESCRIPTION] = comment
        options["exif"] = exif
    elif comment is not None:
        options["comment"] = comment.encode()
    with whole_file(path) as partial:
        first.save(partial, save_all=True, append_images=others, duration=durations, loop=0, **options)
