"""Small models for ComfyUI's own nodes of the workflow `finish_a_clip_with_models`.

Their weights are zeros, so what they make is known: the interpolation (RIFE's network) finds no motion and gives the
mean of two frames, and the upscaler (Real-ESRGAN's compact network) adds nothing to its enlarged input.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

HEAD, WIDTH, SCALE = 4, 2, 4


def write_finishing_models(models: Path) -> None:
    """Writes both where the workflow has them. models: ComfyUI's folder of models."""
    for folder, name, weights in (
        ("frame_interpolation", "film_net_fp16", _interpolation()),
        ("upscale_models", "RealESRGAN_x4plus", _upscaling()),
    ):
        (models / folder).mkdir()
        save_file(weights, models / folder / f"{name}.safetensors")


def _convolution(name: str, *shape: int, transposed: bool = False) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.zeros(shape), f"{name}.bias": torch.zeros(shape[int(transposed)])}


def _interpolation() -> dict[str, Tensor]:
    weights = _convolution("encode.cnn0", 16, 3, 3, 3) | _convolution("encode.cnn3", 16, HEAD, 4, 4, transposed=True)
    weights |= _convolution("encode.cnn1", 16, 16, 3, 3) | _convolution("encode.cnn2", 16, 16, 3, 3)
    for block, channels in enumerate([7 + 2 * HEAD] + [20 + 2 * HEAD] * 4):
        name = f"blocks.{block}"
        weights |= _convolution(f"{name}.conv0.0.0", WIDTH // 2, channels, 3, 3)
        weights |= _convolution(f"{name}.conv0.1.0", WIDTH, WIDTH // 2, 3, 3)
        weights |= _convolution(f"{name}.lastconv.0", WIDTH, 52, 4, 4, transposed=True)
        for layer in range(8):
            weights |= _convolution(f"{name}.convblock.{layer}.conv", WIDTH, WIDTH, 3, 3)
            weights[f"{name}.convblock.{layer}.beta"] = torch.zeros(1, WIDTH, 1, 1)
    return weights


def _upscaling() -> dict[str, Tensor]:
    weights = _convolution("body.0", WIDTH, 3, 3, 3) | _convolution("body.2", 3 * SCALE**2, WIDTH, 3, 3)
    return weights | {"body.1.weight": torch.zeros(WIDTH)}
