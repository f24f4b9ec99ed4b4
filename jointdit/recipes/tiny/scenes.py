"""Synthetic scenes kept in memory for the autoencoders, so that training steps do not wait for the renderer."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ...encoders.autoencoders import to_model_range
from ...latents import ClipShape
from ...synthetic import PictureSource, bundled_photos, render_scene

HELD_OUT_SEED = 900_000_000  # of scenes that only scores use


def render_pool(seed: int, count: int, shape: ClipShape) -> tuple[Tensor, Tensor]:
    """Scenes seed, seed + 1, ... over procedural pictures and the bundled photos: pixels uint8 [count, F, 3, H, W], and
    waveforms float32 [count, samples] at 16 kHz."""
    pictures = PictureSource.from_files(bundled_photos())
    pixels = torch.empty(count, shape.frames, 3, shape.height, shape.width, dtype=torch.uint8)
    sounds = []
    for index in range(count):
        scene = render_scene(seed + index, pictures=pictures, **vars(shape))
        pixels[index] = rearrange(torch.from_numpy(scene.frames), "t h w c -> t c h w")
        sounds.append(torch.from_numpy(scene.audio))
    return pixels, torch.stack(sounds)


def picture_pool(seed: int, count: int, size: int) -> Tensor:
    """Stills, a third of them procedural, the others crops of the bundled photos: uint8 [count, 1, 3, size, size]."""
    source = PictureSource.from_files(bundled_photos(), procedural=1 / 3)
    rng = np.random.default_rng(seed)
    pictures = [torch.from_numpy(source.draw(rng, size, size).copy()) for _ in range(count)]
    return rearrange(torch.stack(pictures), "n h w c -> n 1 c h w")


def draw_integer(low: int, high: int, generator: torch.Generator) -> int:
    """From `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def random_frames(pixels: Tensor, frames: int, size: int, generator: torch.Generator) -> Tensor:
    """Consecutive frames of a random clip [frames, 3, size, size] in -1..1: cropped, flipped and with the colours
    permuted at random. Stills are panned by up to three pixels a frame instead.

    pixels: uint8 [N, F, 3, H, W]; F is 1 for stills.
    """
    clip = pixels[draw_integer(0, len(pixels) - 1, generator)]
    room = [side - size for side in clip.shape[-2:]]
    place = [draw_integer(0, free, generator) for free in room]
    step = [draw_integer(-3, 3, generator) if len(clip) == 1 else 0 for _ in room]
    start = draw_integer(0, len(clip) - frames, generator) if len(clip) > 1 else 0
    cropped = []
    for index in range(frames):
        top, left = (min(max(p + index * s, 0), free) for p, s, free in zip(place, step, room, strict=True))
        cropped.append(clip[start + index if len(clip) > 1 else 0, :, top : top + size, left : left + size])
    pictures = to_model_range(torch.stack(cropped))
    if draw_integer(0, 1, generator):
        pictures = pictures.flip(-1)
    if draw_integer(0, 1, generator):
        pictures = pictures[:, torch.randperm(3, generator=generator)]
    return pictures
