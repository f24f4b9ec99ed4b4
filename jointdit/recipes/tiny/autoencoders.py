"""The commands `video-vae` and `audio-vae`: both start at principal components, and training improves on that."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from einops import rearrange
from torch import Tensor

from ...encoders.autoencoders import AudioAutoencoder, VideoAutoencoder, to_model_range
from ...encoders.mel import log_mel
from .architecture import audio_vae, video_vae
from .linear_start import start_linear
from .recipe import AudioVAEStage, TinyRecipe, VideoVAEStage
from .scenes import HELD_OUT_SEED, draw_integer, picture_pool, random_frames, render_pool
from .training_loop import Stage, fit

logger = logging.getLogger(__name__)
FRAMES = 2  # of a run that the video autoencoder learns from


class VideoVAEObjective:
    """Mean squared error of short runs of frames: small crops first, whole pictures in the last quarter.

    pools: clips, uint8 [N, F, 3, H, W], used in turn; the first pool may be stills (F = 1) larger than `size`.
    size: pixels a side of what is learned.
    """

    def __init__(self, settings: VideoVAEStage, pools: Sequence[Tensor], held_out: Tensor, size: int) -> None:
        self.settings, self.pools, self.held_out, self.size = settings, pools, held_out, size
        self.model = video_vae()
        self.codec = VideoAutoencoder(self.model)
        patches = rearrange(self.codec.fold(self._first_frames(400)), "n c h w -> (n h w) c")
        start_linear(self.model, patches, settings.latent_noise, settings.latent_penalty)

    def _first_frames(self, count: int) -> Tensor:
        return to_model_range(self.pools[0][:count, 0, :, : self.size, : self.size])

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        half = self.size // 2
        size = half if progress < 0.75 else self.size
        count = max(1, self.settings.batch * half**2 // (FRAMES * size**2))
        runs = [random_frames(self.pools[i % len(self.pools)], FRAMES, size, generator) for i in range(count)]
        pixels = torch.cat(runs)
        mode = encode(self.model, self.codec.fold(pixels))
        noisy = add_latent_noise(mode, self.settings.latent_noise, generator)
        error = self.codec.unfold(decode(self.model, noisy, num_frames=FRAMES)) - pixels
        return error.pow(2).mean() + 0.02 * error.abs().mean() + self.settings.latent_penalty * mode.pow(2).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        values = []
        for scene in self.held_out:
            pixels = to_model_range(scene)
            mode = encode(self.model, self.codec.fold(pixels))
            decoded = self.codec.unfold(decode(self.model, mode, num_frames=len(pixels)))
            values.append(psnr(decoded, pixels).mean().item())
        return {"psnr": sum(values) / len(values), "psnr_worst": min(values)}

    @torch.no_grad()
    def set_scaling(self) -> None:
        """The scaling factor that gives the pool's latents a deviation of 1."""
        self.model.eval()
        mode = encode(self.model, self.codec.fold(self._first_frames(64)))
        self.model.register_to_config(scaling_factor=1 / mode.std().item())


class AudioVAEObjective:
    """L1 and squared error of log-mels [N, T, 64]."""

    def __init__(self, settings: AudioVAEStage, mels: Tensor, held_out: Tensor) -> None:
        self.settings, self.mels, self.held_out = settings, mels, held_out
        self.model = audio_vae()
        self.codec = AudioAutoencoder(self.model)
        patches = rearrange(self.codec.fold(mels[:400]), "n c t m -> (n t m) c")
        start_linear(self.model, patches, settings.latent_noise, settings.latent_penalty)

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        length = self.mels.shape[1] if progress > 0.5 else self.mels.shape[1] // 2
        count = self.settings.batch * self.mels.shape[1] // length
        rows = []
        for _ in range(count):
            start = draw_integer(0, self.mels.shape[1] - length, generator)
            rows.append(self.mels[draw_integer(0, len(self.mels) - 1, generator), start : start + length])
        mel = torch.stack(rows)
        mode = encode(self.model, self.codec.fold(mel))
        noisy = add_latent_noise(mode, self.settings.latent_noise, generator)
        error = self.codec.unfold(decode(self.model, noisy)) - mel
        return error.pow(2).mean() + 0.2 * error.abs().mean() + self.settings.latent_penalty * mode.pow(2).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        error = self.codec.decode_mel(self.codec.encode_mel(self.held_out)) - self.held_out
        return {"mel_l1": error.abs().mean().item(), "mel_rms": error.pow(2).mean().sqrt().item()}

    @torch.no_grad()
    def set_scaling(self) -> None:
        """The scaling factor that gives the pool's latents a deviation of 1."""
        self.model.eval()
        mode = encode(self.model, self.codec.fold(self.mels[:64]))
        self.model.register_to_config(scaling_factor=1 / mode.std().item())


def encode(vae: AutoencoderKL | AutoencoderKLTemporalDecoder, folded: Tensor) -> Tensor:
    """The mode of the posterior."""
    encoded: Any = vae.encode(folded)
    return encoded.latent_dist.mode()


def decode(vae: Any, latents: Tensor, **inputs: int) -> Tensor:
    """Folded pixels or log-mels."""
    return vae.decode(latents, **inputs).sample


def add_latent_noise(mode: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Latents with noise, so that the decoder tolerates what a diffusion model leaves of it."""
    return mode + deviation * torch.randn(mode.shape, generator=generator)


def psnr(estimate: Tensor, target: Tensor) -> Tensor:
    """Decibels per picture of [N, 3, H, W] in -1..1."""
    return -10 * torch.log10(((estimate.clamp(-1, 1) - target) / 2).pow(2).mean((1, 2, 3)))


def train_video_vae(recipe: TinyRecipe) -> None:
    """The command `video-vae`: `video_vae` in the runs, its state in `video_vae.run` beside it."""
    stage, shape = recipe.video_vae, recipe.shape
    torch.manual_seed(stage.seed)
    stills = picture_pool(stage.seed, 3 * stage.scenes, shape.height + 32)
    moving, _ = render_pool(stage.seed, stage.scenes, shape)
    held_out, _ = render_pool(HELD_OUT_SEED, min(8, stage.scenes), shape)
    _fit_and_save(recipe, VideoVAEObjective(stage, (stills, moving), held_out, shape.height), stage, "video_vae")


def train_audio_vae(recipe: TinyRecipe) -> None:
    """The command `audio-vae`: `audio_vae` in the runs, its state in `audio_vae.run` beside it."""
    stage = recipe.audio_vae
    torch.manual_seed(stage.seed)
    sounds, held_out = sound_pools(recipe, stage.seed, stage.scenes)
    _fit_and_save(recipe, AudioVAEObjective(stage, log_mel(sounds), log_mel(held_out)), stage, "audio_vae")


def sound_pools(recipe: TinyRecipe, seed: int, scenes: int) -> tuple[Tensor, Tensor]:
    """Waveforms to learn from, and held-out ones [N, samples], from pictures too small to cost time."""
    shape = replace(recipe.shape, height=16, width=16)
    return render_pool(seed, scenes, shape)[1], render_pool(HELD_OUT_SEED, min(32, scenes), shape)[1]


def _fit_and_save(
    recipe: TinyRecipe, objective: VideoVAEObjective | AudioVAEObjective, stage: Stage, name: str
) -> None:
    logger.info("start: %s", objective.evaluate())
    fit(objective, recipe.runs / f"{name}.run", stage)
    objective.set_scaling()
    objective.model.save_pretrained(recipe.runs / name)
    logger.info("%s saved: %s", name, objective.evaluate())
