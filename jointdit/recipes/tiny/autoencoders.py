"""Recipes of the bundled model's video autoencoder, audio autoencoder and vocoder, on synthetic scenes.

    python -m jointdit.recipes.tiny.autoencoders video-vae --output runs/tiny/video_vae --minutes 25

A run that was stopped goes on from its last state (kept in `<output>.run`) when the same command is given again.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from einops import rearrange
from torch import Tensor
from transformers import SpeechT5HifiGan

from ...encoders.autoencoders import AudioAutoencoder, VideoAutoencoder, write_clock
from ...encoders.mel import BINS, log_mel
from ...train.loop import Budget, fit
from .architecture import SHAPE
from .linear_start import start_linear
from .oscillator_bank import CLOCK, OscillatorBank, as_vocoder
from .pools import HELD_OUT_SEED, draw, picture_pool, random_run, scene_pool, sound_pool

logger = logging.getLogger(__name__)

LATENT_NOISE = 0.05
LATENT_PENALTY = 3e-5
MEL_LATENT_PENALTY = 1e-3
SIZE = SHAPE.height


def noisy(mode: Tensor, generator: torch.Generator) -> Tensor:
    return mode + LATENT_NOISE * torch.randn(mode.shape, generator=generator)


def psnr(estimate: Tensor, target: Tensor) -> Tensor:
    """Decibels per picture of [N, 3, H, W] in -1..1."""
    return -10 * torch.log10(((estimate.clamp(-1, 1) - target) / 2).pow(2).mean((1, 2, 3)))


class VideoVAETask:
    """Mean squared error of short runs of frames: small crops first, whole pictures in the last quarter."""

    def __init__(self, pools: tuple[Tensor, ...], held_out: Tensor, batch: int = 16) -> None:
        self.pools, self.held_out, self.batch = pools, held_out, batch
        self.model = AutoencoderKLTemporalDecoder(
            in_channels=3 * 8 * 8,
            out_channels=3 * 8 * 8,
            down_block_types=("DownEncoderBlock2D",),
            block_out_channels=(128,),
            layers_per_block=1,
            latent_channels=16,
            force_upcast=False,
        )
        self.codec = VideoAutoencoder(self.model)
        pictures = pools[0][:400, 0, :, :SIZE, :SIZE].float() / 127.5 - 1
        patches = rearrange(self.codec.fold(pictures), "n c h w -> (n h w) c")
        start_linear(self.model, patches, LATENT_NOISE, LATENT_PENALTY)

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        frames = 2
        size = SIZE // 2 if progress < 0.75 else SIZE
        count = max(1, self.batch * (SIZE // 2) ** 2 // (frames * size**2))
        runs = [random_run(self.pools[i % len(self.pools)], frames, size, generator) for i in range(count)]
        pixels = torch.cat(runs)
        mode = self.model.encode(self.codec.fold(pixels)).latent_dist.mode()
        decoded = self.model.decode(noisy(mode, generator), num_frames=frames).sample
        error = self.codec.unfold(decoded) - pixels
        return error.pow(2).mean() + 0.02 * error.abs().mean() + LATENT_PENALTY * mode.pow(2).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        values = []
        for scene in self.held_out:
            pixels = scene.float() / 127.5 - 1
            mode = self.model.encode(self.codec.fold(pixels)).latent_dist.mode()
            decoded = self.codec.unfold(self.model.decode(mode, num_frames=len(pixels)).sample)
            values.append(psnr(decoded, pixels).mean().item())
        return {"psnr": sum(values) / len(values), "psnr_worst": min(values)}

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Save with the scaling factor that gives the pool's latents a deviation of 1."""
        self.model.eval()
        pixels = self.pools[0][:64, 0, :, :SIZE, :SIZE].float() / 127.5 - 1
        mode = self.model.encode(self.codec.fold(pixels)).latent_dist.mode()
        self.model.register_to_config(scaling_factor=1 / mode.std().item())
        self.model.save_pretrained(folder)


class AudioVAETask:
    """L1 and squared error of log-mels."""

    def __init__(self, mels: Tensor, held_out: Tensor, batch: int = 8) -> None:
        self.mels, self.held_out, self.batch = mels, held_out, batch
        self.model = AutoencoderKL(
            in_channels=4 * 4,
            out_channels=4 * 4,
            down_block_types=("DownEncoderBlock2D",),
            up_block_types=("UpDecoderBlock2D",),
            block_out_channels=(96,),
            layers_per_block=1,
            latent_channels=8,
            norm_num_groups=24,
            sample_size=BINS,
            force_upcast=False,
        )
        self.codec = AudioAutoencoder(self.model)
        patches = rearrange(self.codec.fold(mels[:400]), "n c t m -> (n t m) c")
        start_linear(self.model, patches, LATENT_NOISE, MEL_LATENT_PENALTY)

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        length = self.mels.shape[1] if progress > 0.5 else self.mels.shape[1] // 2
        count = self.batch * self.mels.shape[1] // length
        rows = []
        for _ in range(count):
            start = draw(0, self.mels.shape[1] - length, generator)
            rows.append(self.mels[draw(0, len(self.mels) - 1, generator), start : start + length])
        mel = torch.stack(rows)
        mode = self.model.encode(self.codec.fold(mel)).latent_dist.mode()
        error = self.codec.unfold(self.model.decode(noisy(mode, generator)).sample) - mel
        return error.pow(2).mean() + 0.2 * error.abs().mean() + MEL_LATENT_PENALTY * mode.pow(2).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        error = self.codec.decode_mel(self.codec.encode_mel(self.held_out)) - self.held_out
        return {"mel_l1": error.abs().mean().item(), "mel_rms": error.pow(2).mean().sqrt().item()}

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Save with the scaling factor that gives the pool's latents a deviation of 1."""
        self.model.eval()
        mode = self.model.encode(self.codec.fold(self.mels[:64])).latent_dist.mode()
        self.model.register_to_config(scaling_factor=1 / mode.std().item())
        self.model.save_pretrained(folder)


TIMBRE, TONE = 512, 2048  # samples of the windows that judge a sound's spectrum and its pitches


def timbre_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute differences of log magnitudes, plus that of audible log-mels, in nepers."""
    both = torch.cat([estimate, target])
    window = torch.hann_window(TIMBRE)
    ours, theirs = torch.stft(both, TIMBRE, TIMBRE // 2, window=window, return_complex=True).abs().chunk(2)
    ours, theirs = (each.clamp(min=1e-3).log() for each in (ours, theirs))
    return 0.3 * F.l1_loss(ours, theirs) + F.l1_loss(*log_mel(both).clamp(min=-7).chunk(2))


def pitch_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """1 less the cosine between power spectra, mean over the moments at which the target is loud, tonal ones first."""
    both = torch.cat([estimate, target])
    window = torch.hann_window(TONE)
    power = torch.stft(both, TONE, TONE // 4, window=window, return_complex=True).abs().square()
    ours, theirs = power.chunk(2)
    tonal = theirs.norm(dim=1) / (theirs.sum(1) + 1e-6)
    loud = theirs.sum(1) > 0.05 * theirs.sum(1).amax(1, keepdim=True)
    weight = tonal * loud
    return ((1 - F.cosine_similarity(ours, theirs, dim=1, eps=1e-6)) * weight).sum() / (weight.sum() + 1e-6)


class VocoderTask:
    """Whole sounds, judged by their spectra: from true log-mels and, given a VAE, four times as often from its own."""

    @torch.no_grad()
    def __init__(self, sounds: Tensor, held_out: Tensor, vae: AutoencoderKL | None = None, batch: int = 6) -> None:
        self.sounds, self.held_out, self.batch = sounds, held_out, batch
        mels = [log_mel(part) for part in sounds.split(64)]
        self.mels = torch.cat(mels)
        self.decoded = self.mels
        if vae is not None:
            codec = AudioAutoencoder(vae.eval())
            self.decoded = torch.cat([codec.decode_mel(codec.encode_mel(part)) for part in mels])
        self.model = OscillatorBank()

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        mels = self.mels if draw(0, 4, generator) == 0 else self.decoded
        chosen = torch.randint(len(self.sounds), (self.batch,), generator=generator)
        estimate, target = self.model(mels[chosen]), self.sounds[chosen]
        return timbre_distance(estimate, target) + 3 * pitch_distance(estimate, target)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        estimate = self.model(log_mel(self.held_out))
        judged = {"timbre": timbre_distance, "pitch": pitch_distance}
        return {name: distance(estimate, self.held_out).item() for name, distance in judged.items()}

    def save(self, folder: Path) -> None:
        vocoder = as_vocoder(self.model)
        match_level(vocoder, self.decoded[:64], self.sounds[:64])
        vocoder.save_pretrained(folder)


@torch.no_grad()
def match_level(vocoder: SpeechT5HifiGan, mels: Tensor, sounds: Tensor) -> None:
    """Make a vocoder as loud as the sounds [B, N] on their log-mels [B, T, 64]: what learns logarithms is quieter."""
    for _ in range(2):  # once would do, but for the tanh at the end
        estimate = vocoder(write_clock(mels, CLOCK))
        vocoder.conv_post.weight *= sounds.norm() / estimate.norm()


@dataclass(frozen=True)
class Recipe:
    """Peak learning rate, scenes kept in memory, and how to build the task from (seed, scenes)."""

    rate: float
    scenes: int
    task: Callable[[int, int], VideoVAETask | AudioVAETask | VocoderTask]


def video_vae_task(seed: int, scenes: int) -> VideoVAETask:
    stills = picture_pool(seed, 3 * scenes, SIZE + 32)
    moving, _ = scene_pool(seed, scenes, SIZE)
    held_out, _ = scene_pool(HELD_OUT_SEED, min(8, scenes), SIZE)
    return VideoVAETask((stills, moving), held_out)


def sound_pools(seed: int, scenes: int) -> tuple[Tensor, Tensor]:
    """Waveforms to learn from, and held-out ones."""
    return sound_pool(seed, scenes), sound_pool(HELD_OUT_SEED, min(32, scenes))


def audio_vae_task(seed: int, scenes: int) -> AudioVAETask:
    return AudioVAETask(*map(log_mel, sound_pools(seed, scenes)))


def vocoder_task(seed: int, scenes: int, vae: Path | None = None) -> VocoderTask:
    autoencoder = AutoencoderKL.from_pretrained(vae) if vae is not None else None
    return VocoderTask(*sound_pools(seed, scenes), autoencoder)


RECIPES = {
    "video-vae": Recipe(1.5e-4, 500, video_vae_task),
    "audio-vae": Recipe(2e-4, 2000, audio_vae_task),
    "vocoder": Recipe(6e-4, 800, vocoder_task),
}


def main(arguments: list[str] | None = None) -> None:
    """The command line; `jointdit train` calls it too."""
    parser = argparse.ArgumentParser(prog="jointdit.recipes.tiny.autoencoders", description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=tuple(RECIPES))
    parser.add_argument("--output", type=Path, required=True, help="folder for the trained component")
    parser.add_argument("--minutes", type=float, help="minutes of training in all, earlier runs counted in")
    parser.add_argument("--steps", type=int, help="steps in all, instead of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, help="synthetic scenes kept in memory")
    parser.add_argument("--audio-vae", type=Path, help="vocoder only: learn from this autoencoder's log-mels too")
    options = parser.parse_args(arguments)
    budget = Budget(options.steps, options.minutes)
    recipe = RECIPES[options.kind]
    build = partial(recipe.task, vae=options.audio_vae) if options.kind == "vocoder" else recipe.task
    torch.manual_seed(options.seed)
    task = build(options.seed, options.scenes or recipe.scenes)
    logger.info("start: %s", task.evaluate())
    fit(task, options.output.with_name(options.output.name + ".run"), budget, recipe.rate, options.seed)
    task.save(options.output)
    logger.info("%s saved: %s", options.output, task.evaluate())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
