"""Antialiased drawing on float frames, in place, touching only the pixels that a shape covers.

Frames are float32 [H, W, 3] in [0, 1]. Positions are (y, x) and lengths are in pixels, colours are RGB
triples in [0, 1].
"""

import colorsys
from collections.abc import Sequence

import numpy as np

from .arrays import Array

Point = tuple[float, float]
Colour = Sequence[float] | Array


def hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)


def smoothstep(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def warp(picture: Array, zoom: float = 1.0, shift: Point = (0.0, 0.0)) -> Array:
    """The picture enlarged about its centre and moved by `shift` pixels; outside, the border is repeated."""
    for axis in (0, 1):
        size = picture.shape[axis]
        centre = (size - 1) / 2
        place = np.clip((np.arange(size) - centre - shift[axis]) / zoom + centre, 0, size - 1)
        left = np.minimum(place.astype(int), max(size - 2, 0))
        right = np.minimum(left + 1, size - 1)
        mix = np.expand_dims((place - left).astype(np.float32), (1, 2) if axis == 0 else (0, 2))
        picture = picture.take(left, axis) * (1 - mix) + picture.take(right, axis) * mix
    return picture


def blend(frame: Array, colour: Colour, alpha: Array | float) -> None:
    """Mix the frame towards one colour; alpha is a number or [H, W]."""
    if isinstance(alpha, np.ndarray):
        alpha = alpha[..., None]
    frame += (np.asarray(colour, np.float32) - frame) * np.float32(alpha)


def window(frame: Array, centre: Point, reach: float) -> tuple[Array, Array, Array] | None:
    """The part of the frame within `reach` of `centre` (a view), and offsets from it; None if outside."""
    (y, x), (height, width) = centre, frame.shape[:2]
    top, bottom = max(0, int(y - reach)), min(height, int(y + reach) + 2)
    left, right = max(0, int(x - reach)), min(width, int(x + reach) + 2)
    if top >= bottom or left >= right:
        return None
    rows = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    columns = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
    return frame[top:bottom, left:right], rows, columns


def disc(frame: Array, centre: Point, radius: float, colour: Colour, alpha: float = 1.0, squash: float = 1.0) -> None:
    """A filled ellipse, `squash` times as high as wide."""
    if (part := window(frame, centre, radius * max(1, squash) + 1)) is not None:
        view, rows, columns = part
        distance = np.sqrt((rows / squash) ** 2 + columns**2)
        blend(view, colour, np.clip(radius + 0.5 - distance, 0, 1) * np.float32(alpha))


def ball(frame: Array, centre: Point, radius: float, colour: Colour, gloss: float, squash: float = 1.0) -> None:
    """A shaded ball with a dark rim, lit from the upper left; gloss in [0, 1] is the strength of its highlight."""
    disc(frame, centre, radius + max(1.0, 0.1 * radius), [0.15 * c for c in colour], 0.8, squash)
    disc(frame, centre, radius, [0.75 * c for c in colour], 1.0, squash)
    y, x = centre
    disc(frame, (y - 0.15 * radius * squash, x - 0.15 * radius), 0.75 * radius, colour, 0.9, squash)
    disc(frame, (y - 0.35 * radius * squash, x - 0.35 * radius), 0.28 * radius, (1, 1, 1), 0.25 + 0.7 * gloss, squash)


def glow(frame: Array, centre: Point, radius: float, colour: Colour, alpha: float) -> None:
    """A soft round light: a Gaussian of standard deviation `radius`, cut to reach zero at 2.6 of them."""
    if alpha > 0.01 and (part := window(frame, centre, 2.6 * radius)) is not None:
        view, rows, columns = part
        fall = np.exp(-0.5 * (rows / radius) ** 2) * np.exp(-0.5 * (columns / radius) ** 2)
        blend(view, colour, np.maximum(fall - np.float32(0.034), 0) * np.float32(alpha / 0.966))


def dots(frame: Array, places: Array, radius: float, colour: Colour, alpha: float) -> None:
    """Soft round dots at `places` [N, 2], Gaussians of standard deviation `radius`; the strongest wins."""
    height, width = frame.shape[:2]
    steps = np.arange(-int(2.5 * radius) - 1, int(2.5 * radius) + 2)
    rows = np.floor(places[:, :1]).astype(int) + steps
    columns = np.floor(places[:, 1:]).astype(int) + steps
    down = np.exp(-0.5 * ((rows - places[:, :1]) / radius) ** 2) * ((rows >= 0) & (rows < height))
    across = np.exp(-0.5 * ((columns - places[:, 1:]) / radius) ** 2) * ((columns >= 0) & (columns < width))
    mask = np.zeros((height, width), np.float32)
    where = (rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None, :])
    np.maximum.at(mask, where, (down[:, :, None] * across[:, None, :]).astype(np.float32))
    blend(frame, colour, mask * np.float32(alpha))


def bar(
    frame: Array, start: Point, end: Point, radius: float, colour: Colour, alpha: float = 1.0, soft: float = 0.5
) -> None:
    """A thick line with round ends; `soft` is the width of its edge."""
    centre = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    dy, dx = end[0] - start[0], end[1] - start[1]
    length = max(float(np.hypot(dy, dx)), 1e-3)
    if (part := window(frame, centre, length / 2 + radius + soft + 1)) is not None:
        view, rows, columns = part
        along = np.clip((rows * dy + columns * dx) / length, -length / 2, length / 2)
        distance = np.sqrt((rows - along * (dy / length)) ** 2 + (columns - along * (dx / length)) ** 2)
        blend(view, colour, np.clip((radius + soft - distance) / (2 * soft), 0, 1) * np.float32(alpha))
