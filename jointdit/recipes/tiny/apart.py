"""The commands `video-alone`, `audio-alone` and `pair`: two small experts that never saw each other.

Stable Video Diffusion and AudioLDM2 were trained apart, and Joint Blocks have to bring them together. These experts
show at small size whether Stage A does that: no Joint Block is there while they learn, and each runs as a whole UNet.
The picture and text encoders are those of `start`, as CLIP's are for the real experts.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ...diffusion.denoiser import add_noise, clean_estimates, model_inputs, squared_errors, training_targets
from ...diffusion.schedules import Levels
from ...errors import InputError
from ...latents import JointLatents
from ...models.experts.temporal import flatten_temporal_convolutions
from ...models.model import Conditioning
from ...pipeline import JointDiTPipeline
from ...train.checkpoint import load_average
from ...train.losses import noise_like
from ...train.noise_levels import draw_audio_levels
from .architecture import TinyModel
from .cache import load_cache
from .export import assemble, write_model
from .initial_weights import start_unets
from .objectives import ExpertsObjective
from .recipe import TinyRecipe
from .training_loop import STATE, fit

Modality = Literal["video", "audio"]
JUDGED = {"video": (2.0, 4.0, 11.0, 19.0, 52.0), "audio": (100.0, 300.0, 600.0, 850.0, 950.0)}


def train_video_alone(recipe: TinyRecipe) -> None:
    """The video UNet from scratch, isolated."""
    _train(recipe, "video")


def train_audio_alone(recipe: TinyRecipe) -> None:
    """The audio UNet from scratch, isolated."""
    _train(recipe, "audio")


def write_pair(recipe: TinyRecipe) -> None:
    """A model folder of the two experts, whose Joint Blocks are at their identity start."""
    model, pipe = new_model(recipe, seed=0)
    for modality in ("video", "audio"):
        path = recipe.runs / f"{modality}_alone.run" / STATE
        if not path.exists():
            raise InputError(f"{path}: missing; run `python -m jointdit.recipes.tiny {modality}-alone` first")
        other, _ = new_model(recipe, seed=0)
        load_average(path, other)
        setattr(model, f"{modality}_unet", getattr(other, f"{modality}_unet"))
    write_model(assemble(recipe, model, pipe.tokenizer), recipe)


def new_model(recipe: TinyRecipe, seed: int) -> tuple[TinyModel, JointDiTPipeline]:
    """UNets and Joint Blocks at random, and the encoders of the model `start`, which comes with it."""
    if recipe.start is None:
        raise InputError("experts that learn apart use the encoders of a model; name it with --start")
    pipe = JointDiTPipeline.from_pretrained(recipe.start)
    packed = pipe.video_vae.config.latent_channels * recipe.architecture.latents_per_position**2
    torch.manual_seed(seed)
    model = TinyModel(
        recipe.architecture, len(pipe.tokenizer), packed, pipe.audio_unet.config.in_channels, recipe.shape.frames
    )
    model.text_encoder, model.image_encoder = pipe.text_encoder.float(), pipe.image_encoder.float()
    return model, pipe


def _train(recipe: TinyRecipe, modality: Modality) -> None:
    stage = recipe.video_alone if modality == "video" else recipe.audio_alone
    scenes, sounds = load_cache(recipe)
    model, pipe = new_model(recipe, stage.seed)
    start_unets(recipe, model, scenes)
    flatten_temporal_convolutions(model)
    model.requires_grad_(False)
    getattr(model, f"{modality}_unet").requires_grad_(True)
    objective = (VideoAlone if modality == "video" else AudioAlone)(
        recipe, model, pipe.tokenizer, scenes, sounds, stage.batch
    )
    folder, factors = recipe.runs / f"{modality}_alone.run", recipe.experts.rate_factors
    fit(objective, folder, stage, copy.deepcopy(model), factors, bfloat16=stage.bfloat16)


class _Alone(ExpertsObjective):
    """One expert as a whole UNet, by its own forward. What the other one would predict is left as its noisy input."""

    modality: Modality

    def errors(
        self, clean: JointLatents, conditioning: Conditioning, levels: Levels, noise: JointLatents
    ) -> tuple[Tensor, Tensor]:
        """Mean squared errors of raw predictions, [B] each; that of `modality` has a meaning."""
        raw = self.predict(add_noise(clean, noise, levels), conditioning, levels)
        return squared_errors(raw, training_targets(clean, noise, levels, conditioning))

    def predict(self, noisy: JointLatents, conditioning: Conditioning, levels: Levels) -> JointLatents:
        """The raw prediction of `modality`."""
        video, audio, c_noise, timestep = model_inputs(noisy, levels, conditioning)
        if self.modality == "video":
            unet, embeds = self.model.video_unet, conditioning.video_embeds
            raw = unet(video, c_noise, embeds, conditioning.added_time_ids, return_dict=False)[0]
            return replace(noisy, video=raw)
        raw = self.model.audio_unet(
            audio,
            timestep,
            encoder_hidden_states=conditioning.audio_embeds,
            encoder_hidden_states_1=conditioning.audio_embeds_1,
            encoder_attention_mask_1=conditioning.audio_mask_1,
            return_dict=False,
        )[0]
        return replace(noisy, audio=raw)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """By noise level, mean squared errors of the clean estimates of held-out scenes."""
        self.model.eval()
        found: dict[str, float] = {}
        none = torch.zeros(len(self.held_out), dtype=torch.bool)
        clean, cond = self.clips(self.held_out, none, none)
        noise = noise_like(clean, torch.Generator().manual_seed(0))
        for level in JUDGED[self.modality]:
            pair = (level, 0.0) if self.modality == "video" else (self.clock.sigma_min, level)
            levels = self.clock.levels(*(torch.full((len(self.held_out),), x, dtype=torch.float64) for x in pair))
            noisy = add_noise(clean, noise, levels)
            estimate = getattr(clean_estimates(noisy, self.predict(noisy, cond, levels), levels, cond), self.modality)
            found[f"{self.modality}_{level:g}"] = (estimate - getattr(clean, self.modality)).square().mean().item()
        return found


class VideoAlone(_Alone):
    """Raw v at the levels that the clock draws, and those of the sampler's path where the video moves."""

    modality: Modality = "video"

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        without_prompt, unconditional, _ = self.draw_dropout(generator)
        levels = self.draw_levels(generator, self.recipe.sampling.part_above(self.settings.moving_sigma))
        index = self.draw_scenes(torch.zeros_like(unconditional), generator)
        part = 2 if progress < self.settings.half_clips else 1
        clean, cond = self.clips(index, without_prompt, unconditional, part)
        return self.errors(clean, cond, levels, noise_like(clean, generator))[0].mean()


class AudioAlone(_Alone):
    """Raw epsilon, whose errors weigh more in strong noise, as in the recipe's other losses."""

    modality: Modality = "audio"

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        index = torch.randint(len(self.sounds.captions), (self.batch,), generator=generator)
        picture = torch.randint(self.settings.held_out, len(self.scenes.captions), (self.batch,), generator=generator)
        without_prompt, unconditional, _ = self.draw_dropout(generator)
        captions = [self.sounds.captions[row] for row in index.tolist()]
        cond = self.conditions(picture, without_prompt, unconditional, captions)
        clean = JointLatents(self.scenes.video[picture, :1].float(), self.sounds.audio[index].float())
        levels = draw_audio_levels(self.clock, self.batch, generator, self.settings.audio_noise_power)
        errors = self.errors(clean, cond, levels, noise_like(clean, generator))[1]
        return (errors * self.pair_losses.weight(levels)).mean()
