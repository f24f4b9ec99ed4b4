"""How cleanly what happens is painted: fine detail, grain, and the colour of what was added. Frames are uint8
[T, H, W, 3], the first is the picture before anything happens.

Fine detail counts grain as detail, so the two are read together. All are compared with those of true scenes.
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from ..synthetic.effects.materials import COLOURS
from .seen import level, motion

FINE = 1.5  # pixels: what a Gaussian of this deviation takes away is fine
LIGHT = 33  # pixels, a side of the square in which light is taken to be even
OBJECT = 65  # pixels, a side of a square that is larger than any object
TILE = 16  # pixels
ADDED = 0.02  # share of the pixels of a clip that are taken to be the object's
PALE = 0.25  # saturation below which a colour is white

Frames = NDArray[np.floating]


def fine_detail(frames: NDArray[np.uint8]) -> float:
    """Root mean square of what is fine in the change from the first frame, in grey levels, mean over the others."""
    return float(np.sqrt(np.square(_fine(_change(frames))).mean((1, 2, 3))).mean())


def grain(frames: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Grain [T - 1] of every frame after the first, in grey levels.

    What is fine in a frame less the first in its own light; of its tiles the median, so that an object does not count.
    """
    fine = _fine(frames[1:].astype(np.float32) - in_own_light(frames))
    rows, columns = (side // TILE * TILE for side in fine.shape[1:3])
    tiles = fine[:, :rows, :columns].reshape(len(fine), rows // TILE, TILE, columns // TILE, TILE, 3)
    return np.median(tiles.std((2, 4)).mean(-1), axis=(1, 2))


def calm_and_busy(frames: NDArray[np.uint8]) -> tuple[float, float]:
    """Grain of the calmest frame, and mean grain of the frames in which most happens: a fifth of them, those with the
    most motion and the furthest from the first."""
    found = grain(frames)
    most = np.argsort(motion(frames)[1:] + level(frames)[1:])[-max(1, len(found) // 5) :]
    return float(found.min()), float(found[most].mean())


def in_own_light(frames: NDArray[np.uint8], side: int = LIGHT) -> Frames:
    """The first frame in the light of each other one, [T - 1, H, W, 3]: brighter or darker, paler or more contrasted
    from place to place, as a line through the pixels of a square of `side` around has it."""

    def around(pixels: Frames) -> Frames:
        return uniform_filter(pixels, side, axes=(1, 2))

    first, others = frames[:1].astype(np.float32), frames[1:].astype(np.float32)
    mean, means = around(first), around(others)
    slope = (around(first * others) - mean * means) / (around(first * first) - mean * mean + 4.0)
    return means + np.clip(slope, 0, 2) * (first - mean)


def added_colour(frames: NDArray[np.uint8]) -> str:
    """The name, of `COLOURS`, that is nearest in hue to what was added to the picture.

    Of all frames those pixels count that are furthest from the first frame in its own light.
    """
    others = frames[1:].astype(np.float32)
    away = np.abs(gaussian_filter(others - in_own_light(frames, OBJECT), (0, 1, 1, 0))).sum(-1)
    pixels = others[away >= np.quantile(away, 1 - ADDED)]
    hue, saturation, _ = colorsys.rgb_to_hsv(*(np.median(pixels, 0) / 255))
    if saturation < PALE:
        return "white"
    hues = {name: colorsys.rgb_to_hsv(*colour)[0] for name, colour in COLOURS.items() if name != "white"}
    return min(hues, key=lambda name: abs((hues[name] - hue + 0.5) % 1 - 0.5))


def _change(frames: NDArray[np.uint8]) -> Frames:
    return frames[1:].astype(np.float32) - frames[:1]


def _fine(frames: Frames) -> Frames:
    return frames - gaussian_filter(frames, (0, FINE, FINE, 0))
