"""The commands `train`, `videos` and `sounds`: experts, Joint Blocks and encoders, trained on cached latents.

Each resumes where it stopped, and starts from the averaged weights of the one before. Three things save time: initial
weights that already show the given picture; the audio expert, which is cheap, also learns from sub-steps and from
sounds alone; the first part of training from scratch sees half clips.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence

import torch
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTokenizer

from ...errors import InputError
from ...models.experts.temporal import flatten_temporal_convolutions
from ...pipeline import JointDiTPipeline
from ...train.checkpoint import load_average
from ...train.precision import warn_of_slow_bfloat16
from .architecture import TinyModel
from .cache import CachedScenes, load_cache
from .initial_weights import set_initial_weights, start_from
from .objectives import ExpertsObjective, SoundObjective, VideoObjective
from .recipe import SoundStage, TinyRecipe, VideoStage
from .suggestions import learn_suggestions
from .tokenizer import train_tokenizer
from .training_loop import STATE, fit

logger = logging.getLogger(__name__)
RUNS = ("joint.run", "videos.run", "sounds.run")  # each goes on from the one before


def train(recipe: TinyRecipe) -> None:
    """Everything above the autoencoders, from scratch, from `start` or from the last state."""
    scenes, sounds = load_cache(recipe)
    stage = recipe.train
    torch.manual_seed(stage.seed)
    model, tokenizer = build(recipe, scenes)
    if recipe.start is None and not (recipe.runs / RUNS[0] / STATE).exists():
        known = learn_suggestions(model.image_encoder, scenes.picture, recipe.suggestions, stage.seed)
        logger.info("of %.0f%% of held-out pictures the image encoder knows what they suggest", 100 * known)
        set_initial_weights(recipe, model, scenes)
    flatten_temporal_convolutions(model)
    objective = ExpertsObjective(recipe, model, tokenizer, scenes, sounds, stage.batch)
    fit(
        objective,
        recipe.runs / RUNS[0],
        stage,
        average=copy.deepcopy(model),
        factors=recipe.experts.rate_factors,
    )


def train_videos(recipe: TinyRecipe) -> None:
    """The video expert once more, from the averaged weights of `train`; audio expert and encoders stay."""
    learned = ("video_unet", "joint_blocks.")
    _train_part(recipe, RUNS[1], recipe.videos, VideoObjective, "video", learned)


def train_sounds(recipe: TinyRecipe) -> None:
    """The audio expert once more, from the averaged weights of the run before; all that the video reads stays."""
    learned = ("audio_unet", "joint_blocks.image_to_text", "joint_blocks.audio_level")
    _train_part(recipe, RUNS[2], recipe.sounds, SoundObjective, "audio", learned)


def _train_part(
    recipe: TinyRecipe,
    run: str,
    stage: VideoStage | SoundStage,
    objective: type[ExpertsObjective],
    modality: str,
    learned: Sequence[str],
) -> None:
    """Train what begins with `learned`, and of the Joint Blocks' halves that of `modality` alone."""
    scenes, sounds = load_cache(recipe)
    model, tokenizer = load(recipe, scenes, before=run)
    flatten_temporal_convolutions(model)
    if stage.bfloat16:  # fused attention of so few tokens takes ten times as long on a CPU
        warn_of_slow_bfloat16(torch.device("cpu"))
        model.video_unet.set_attn_processor(AttnProcessor())
    for name, parameter in model.named_parameters():
        half = name.split(".")[3] if name.startswith("joint_blocks.blocks.") else None
        parameter.requires_grad_(half == modality if half in ("audio", "video") else name.startswith(tuple(learned)))
    fit(
        objective(recipe, model, tokenizer, scenes, sounds, stage.batch),
        recipe.runs / run,
        stage,
        average=copy.deepcopy(model),
        factors=recipe.experts.rate_factors,
        bfloat16=stage.bfloat16 and modality == "video",
    )


def build(recipe: TinyRecipe, scenes: CachedScenes | None = None) -> tuple[TinyModel, CLIPTokenizer]:
    """The model `start`, whose autoencoders must be those of the cache, and its tokenizer; or a new model for the
    cached `scenes`, with a tokenizer that is trained on their captions if it is not there."""
    sizes, frames = recipe.architecture, recipe.shape.frames
    if recipe.start is not None:
        pipe = JointDiTPipeline.from_pretrained(recipe.start)
        packed = pipe.video_vae.config.latent_channels * sizes.latents_per_position**2
        model = TinyModel(sizes, len(pipe.tokenizer), packed, pipe.audio_unet.config.in_channels, frames)
        start_from(model, pipe, recipe.experts.open_gate)
        return model, pipe.tokenizer
    if scenes is None:
        scenes, _ = load_cache(recipe)
    folder = recipe.runs / "tokenizer"
    if folder.exists():
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    else:
        tokenizer = train_tokenizer(scenes.captions, sizes, folder)
    return TinyModel(sizes, len(tokenizer), scenes.video.shape[2], scenes.audio.shape[1], frames), tokenizer


def load(
    recipe: TinyRecipe, scenes: CachedScenes | None = None, before: str | None = None
) -> tuple[TinyModel, CLIPTokenizer]:
    """The averaged weights of the last run that there is, or of the last one before the run `before`, else those of
    `start`. Raises InputError where there is neither."""
    model, tokenizer = build(recipe, scenes)
    runs = RUNS[: RUNS.index(before)] if before else RUNS
    states = [path for run in runs if (path := recipe.runs / run / STATE).exists()]
    if states:
        load_average(states[-1], model)
    elif recipe.start is None:
        raise InputError(
            f"{recipe.runs}: no state of {', '.join(runs)}; run `python -m jointdit.recipes.tiny train`, or name a "
            "model with --start"
        )
    return model, tokenizer
