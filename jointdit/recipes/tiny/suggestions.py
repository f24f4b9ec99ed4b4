"""The image encoder learns what pictures suggest, so that without a prompt the picture decides the effect.

`train` begins with this. The command `suggestions` writes a copy of a model whose image encoder has learned it; with
that as `--start`, `videos` and `sounds` make the experts follow.
"""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from ...encoders.autoencoders import to_model_range
from ...encoders.conditioning import encode_clip_image
from ...errors import InputError
from ...pipeline import JointDiTPipeline
from ...synthetic import EFFECTS
from ...train.schedule import learning_rate
from .architecture import image_processor
from .cache import LATENTS, CachedScenes, suggested_effects
from .recipe import Suggestions, TinyRecipe
from .training_loop import step_generator

logger = logging.getLogger(__name__)


def train_suggestions(recipe: TinyRecipe) -> None:
    """The command `suggestions`: from the model `start` to the folder `output`."""
    if recipe.start is None:
        raise InputError("suggestions: no model to start from; name one with --start")
    scenes = CachedScenes.load(recipe.runs / LATENTS, recipe.architecture.latents_per_position)
    pipe = JointDiTPipeline.from_pretrained(recipe.start)
    encoder = pipe.image_encoder.float()
    known = learn_suggestions(encoder, scenes.picture, recipe.suggestions, recipe.suggestions.seed)
    logger.info("of %.0f%% of held-out pictures the image encoder knows what they suggest", 100 * known)
    pipe.save_pretrained(recipe.output)


def learn_suggestions(
    encoder: CLIPVisionModelWithProjection, pictures: Tensor, settings: Suggestions, seed: int
) -> float:
    """Train `encoder` in place on pictures, uint8 [N, 3, s, s], so that a linear map reads from its normalised
    embedding, as Joint Blocks do, what `suggested_effect` says. Returns the share of held-out pictures for which that
    is correct."""
    before = copy.deepcopy(encoder).eval().requires_grad_(False)
    held_out, pictures = pictures[: settings.held_out], pictures[settings.held_out :]
    torch.manual_seed(seed)
    width = encoder.config.projection_dim
    head = nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, len(EFFECTS)))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], betas=(0.9, 0.98), weight_decay=0.0)
    encoder.train()
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings.rate, step, step / settings.steps)
        generator = step_generator(seed, step)
        index = torch.randint(len(pictures), (settings.batch,), generator=generator)
        batch = _tint(pictures[index], settings, generator)
        embeds, old = (_embed(model, batch) for model in (encoder, before))
        loss = nn.functional.cross_entropy(head(embeds), _effect_numbers(batch))
        loss = loss + settings.kept * (embeds - old).square().mean() / old.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            logger.info("step %d, loss %.3f", step + 1, loss.item())
    encoder.eval()
    with torch.no_grad():
        return (head(_embed(encoder, held_out)).argmax(1) == _effect_numbers(held_out)).float().mean().item()


def _tint(pictures: Tensor, settings: Suggestions, generator: torch.Generator) -> Tensor:
    """uint8 [B, 3, h, w], brighter or darker and of another tint."""
    gain, tint = torch.rand(len(pictures), 1, generator=generator), torch.rand(len(pictures), 3, generator=generator)
    factor = (1 + settings.gain * (2 * gain - 1)) * (1 + settings.tint * (2 * tint - 1))
    return (pictures * factor[..., None, None]).round().clamp(0, 255).to(torch.uint8)


def _embed(encoder: CLIPVisionModelWithProjection, pictures: Tensor) -> Tensor:
    """uint8 [B, 3, s, s] -> [B, D]."""
    return encode_clip_image(image_processor(pictures.shape[-1]), encoder, to_model_range(pictures))[:, 0]


def _effect_numbers(pictures: Tensor) -> Tensor:
    """Numbers of the effects [B] that pictures, uint8 [B, 3, h, w], suggest."""
    return torch.tensor([EFFECTS.index(effect) for effect in suggested_effects(pictures)])
