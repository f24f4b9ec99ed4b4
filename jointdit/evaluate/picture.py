"""Does the picture stay? Frames are uint8 [T, H, W, 3]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def psnr(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> float:
    """Decibels between two pictures or videos of one shape; infinite where they are equal."""
    error = np.mean((one.astype(np.float32) - two) ** 2)
    return float(20 * np.log10(255) - 10 * np.log10(error)) if error else float("inf")


def colour_drift(frames: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Mean of red, green and blue in the last frame minus that in the first, in grey levels."""
    red, green, blue = frames[-1].mean((0, 1)) - frames[0].mean((0, 1))
    return float(red), float(green), float(blue)
