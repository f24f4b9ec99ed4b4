"""Synthetic scenes kept in memory, so that training steps do not wait for the renderer."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ...synthetic import PictureSource, bundled_photos, render_scene
from .architecture import SHAPE

HELD_OUT_SEED = 900_000_000


def scene_pool(seed: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Scenes seed, seed + 1, ... of the bundled model's length, over procedural pictures and the bundled photos.

    Returns:
        Pixels uint8 [count, frames, 3, size, size], and waveforms float32 [count, samples] at 16 kHz.
    """
    pictures = PictureSource.from_files(bundled_photos())
    frames, fps = SHAPE.frames, SHAPE.fps
    pixels = torch.empty(count, frames, 3, size, size, dtype=torch.uint8)
    sounds = []
    for index in range(count):
        scene = render_scene(seed + index, frames=frames, fps=fps, height=size, width=size, pictures=pictures)
        pixels[index] = rearrange(torch.from_numpy(scene.frames), "t h w c -> t c h w")
        sounds.append(torch.from_numpy(scene.audio))
    return pixels, torch.stack(sounds)


def sound_pool(seed: int, count: int) -> Tensor:
    """The waveforms of `scene_pool`'s scenes alone, from pictures too small to cost time: float32 [count, samples]."""
    return scene_pool(seed, count, 16)[1]


def draw(low: int, high: int, generator: torch.Generator) -> int:
    """One integer, `high` included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def picture_pool(seed: int, count: int, size: int) -> Tensor:
    """Stills, a third of them procedural, the others crops of the bundled photos: uint8 [count, 1, 3, size, size]."""
    source = PictureSource.from_files(bundled_photos(), procedural=1 / 3)
    rng = np.random.default_rng(seed)
    pictures = [torch.from_numpy(source.draw(rng, size, size).copy()) for _ in range(count)]
    return rearrange(torch.stack(pictures), "n h w c -> n 1 c h w")


def random_run(pixels: Tensor, frames: int, size: int, generator: torch.Generator) -> Tensor:
    """Consecutive frames of a random clip, cropped, in -1..1, flipped and with its colours permuted at random.

    Stills are panned by up to three pixels a frame instead.

    Args:
        pixels: uint8 [N, F, 3, H, W]; F is 1 for stills.

    Returns:
        [frames, 3, size, size].
    """
    clip = pixels[draw(0, len(pixels) - 1, generator)]
    room = [side - size for side in clip.shape[-2:]]
    place = [draw(0, free, generator) for free in room]
    step = [draw(-3, 3, generator) if len(clip) == 1 else 0 for _ in room]
    start = draw(0, len(clip) - frames, generator) if len(clip) > 1 else 0
    run = []
    for index in range(frames):
        top, left = (min(max(p + index * s, 0), free) for p, s, free in zip(place, step, room, strict=True))
        run.append(clip[start + index if len(clip) > 1 else 0, :, top : top + size, left : left + size])
    pictures = torch.stack(run).float() / 127.5 - 1
    if draw(0, 1, generator):
        pictures = pictures.flip(-1)
    if draw(0, 1, generator):
        pictures = pictures[:, torch.randperm(3, generator=generator)]
    return pictures
