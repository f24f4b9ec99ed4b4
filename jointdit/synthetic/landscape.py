"""Paints the picture that ships as `jointdit/assets/sample.jpg`: an evening over a lake.

python -m jointdit.synthetic.landscape jointdit/assets/sample.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from .arrays import Array
from .drawing import glow
from .textures import fractal_noise

HEIGHT, WIDTH, SEED = 480, 640, 8
SKY = np.array([[0.13, 0.16, 0.36], [0.42, 0.33, 0.52], [0.95, 0.58, 0.36], [1.0, 0.8, 0.5]], np.float32)
RIDGES = (
    # base of the crest from the top, its roughness, near colour
    (0.50, 0.060, (0.45, 0.36, 0.50)),
    (0.56, 0.050, (0.30, 0.26, 0.42)),
    (0.61, 0.035, (0.16, 0.17, 0.28)),
)
SHORE = 0.64
MOON = (0.20, 0.74)


def paint() -> Array:
    """The picture, float32 [480, 640, 3] in 0..1."""
    rng = np.random.default_rng(SEED)
    rows = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None]
    place = np.linspace(0, SHORE, len(SKY))
    sky = np.stack([np.interp(rows[:, 0], place, SKY[:, channel]) for channel in range(3)], -1)[:, None]
    picture = np.repeat(sky, WIDTH, 1).astype(np.float32)
    cloud = np.clip(fractal_noise(rng, HEIGHT, WIDTH, 3.0) * 0.5, 0, 0.5) * np.clip(1.6 - 2.4 * rows, 0, 1)
    picture += (np.array([1.0, 0.82, 0.74], np.float32) - picture) * cloud[..., None]
    centre = (MOON[0] * HEIGHT, MOON[1] * WIDTH)
    glow(picture, centre, 60, (1.0, 0.93, 0.8), 0.5)
    distance = np.hypot(np.arange(HEIGHT)[:, None] - centre[0], np.arange(WIDTH)[None] - centre[1])
    disc = np.clip(27 - distance, 0, 1)[..., None] * (1 + 0.05 * fractal_noise(rng, HEIGHT, WIDTH, 2.4)[..., None])
    picture += (np.array([1.0, 0.96, 0.86], np.float32) - picture) * np.clip(disc, 0, 1)
    for crest, roughness, colour in RIDGES:
        profile = crest + roughness * fractal_noise(rng, 8, WIDTH, 3.0)[:1]
        body = np.array(colour, np.float32) * (1 + 0.16 * fractal_noise(rng, HEIGHT, WIDTH, 2.0)[..., None])
        alpha = np.clip((rows - profile) * HEIGHT, 0, 1)[..., None]
        picture += (body - picture) * alpha
    shore = round(SHORE * HEIGHT)
    depth = HEIGHT - shore
    mirror = picture[shore - 1 :: -1][:depth]
    ripple = np.rint(3 * np.sin(np.arange(depth) ** 0.8 * 1.9) * np.linspace(0.2, 1.6, depth)).astype(int)
    water = np.stack([np.roll(line, shift, 0) for line, shift in zip(mirror, ripple, strict=True)])
    shade = np.linspace(0.85, 0.5, depth, dtype=np.float32)[:, None, None]
    streaks = 0.04 * np.repeat(fractal_noise(rng, depth, 40, 1.5), WIDTH // 40, 1)[..., None]
    picture[shore:] = water * shade + streaks
    return np.clip(picture, 0, 1)


if __name__ == "__main__":
    Image.fromarray(np.rint(paint() * 255).astype(np.uint8)).save(Path(sys.argv[1]), quality=92)
