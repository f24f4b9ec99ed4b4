"""Where the experts and the Joint Blocks start when they are trained from scratch.

Both UNets start at a linear estimate (linear_start.py), so that from the first step the video shows the given picture,
or, where the video is measured from it, at nothing, which is the picture too; the Joint Blocks start half open, and
tokens of the same moment attend to each other.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ...diffusion.denoiser import add_noise, scale_audio
from ...diffusion.schedules import NoiseClock
from ...latents import JointLatents
from ...models.joint_start import open_at_own_time
from ...pipeline import JointDiTPipeline
from .architecture import TinyModel, noise_clock
from .cache import CachedScenes
from .linear_start import start_as_mixture
from .recipe import TinyRecipe

SCENES = 256  # that the estimates come from


def set_initial_weights(recipe: TinyRecipe, model: TinyModel, scenes: CachedScenes) -> None:
    """Set the UNets and the Joint Blocks of a new model."""
    start_unets(recipe, model, scenes)
    open_at_own_time(model.joint_blocks, recipe.experts.open_gate)


def start_unets(recipe: TinyRecipe, model: TinyModel, scenes: CachedScenes) -> None:
    """Set the UNets of a new model to linear estimates; a video UNet that learns what happens to the picture, to
    nothing happening."""
    generator = torch.Generator().manual_seed(recipe.train.seed)
    index = torch.randint(recipe.experts.held_out, len(scenes.captions), (SCENES,), generator=generator)
    video, audio = linear_estimates(scenes, index, noise_clock(recipe.sampling), generator)
    if recipe.sampling.around_picture:
        start_at_nothing(model)
    else:
        start_as_mixture(model.video_unet, video)
    start_as_mixture(model.audio_unet, audio)


def start_at_nothing(model: TinyModel) -> None:
    """Set the end of the video UNet, so that it predicts zeros."""
    nn.init.zeros_(model.video_unet.conv_out.weight)
    nn.init.zeros_(cast(Tensor, model.video_unet.conv_out.bias))


def start_from(model: TinyModel, pipe: JointDiTPipeline, gate: float) -> None:
    """Take the parts of a finished model. Where its video expert has another architecture, the new one stays, predicts
    nothing, and joins with open gates by what the shapes of the Joint Blocks let it keep."""
    kept = _shapes(model.video_unet) == _shapes(pipe.video_unet)
    for name, _ in list(model.named_children()):
        if kept or name not in ("video_unet", "joint_blocks"):
            setattr(model, name, getattr(pipe, name).float())
    if not kept:
        start_at_nothing(model)
        open_at_own_time(model.joint_blocks, gate)
        new, shapes = model.joint_blocks.state_dict(), _shapes(model.joint_blocks)
        taken = {name: each for name, each in pipe.joint_blocks.state_dict().items() if shapes.get(name) == each.shape}
        model.joint_blocks.load_state_dict(new | taken)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def linear_estimates(
    scenes: CachedScenes, index: Tensor, clock: NoiseClock, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """By channel, from the scenes `index`: v from (input, picture) [2, C] that keeps the picture still, and the least
    squares of epsilon from the input [1, C] over the levels of training."""
    clean = JointLatents(scenes.video[index, :1].float(), scenes.audio[index].float())
    levels = clock.sample_levels(len(index), generator).select(torch.arange(len(index)))
    noise = clean.map(lambda x: torch.randn(x.shape, generator=generator))
    audio = _least_squares(scale_audio(add_noise(clean, noise, levels).audio, levels), noise.audio)
    # v is -clean where the noise is strong; where it is weak, the clean estimate hardly depends on v.
    picture = _least_squares(scenes.image[index].float(), -clean.video[:, 0])
    return torch.stack((torch.zeros_like(picture), picture)), audio[None]


def _least_squares(inputs: Tensor, target: Tensor) -> Tensor:
    """[B, C, h, w] each -> [C]."""
    return (inputs * target).sum((0, 2, 3)) / inputs.square().sum((0, 2, 3))
