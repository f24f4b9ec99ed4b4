"""What the bundled model's training minimises: all together, the video expert alone, the audio expert alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor
from transformers import CLIPTokenizer

from ...diffusion.denoiser import JointDenoiser
from ...diffusion.schedules import Levels
from ...encoders.conditioning import encode_clip_image, encode_clip_text, join, speak_for_image
from ...latents import JointLatents
from ...models.model import Conditioning
from .architecture import (
    AUDIO_START,
    AUDIO_SUBSTEPS,
    MOTION_BUCKET,
    NOISE_AUGMENTATION,
    PROCESSOR,
    SHAPE,
    SIGMAS,
    TinyModel,
)
from .latent_pool import LatentPool, SoundPool

HELD_OUT = 48  # scenes
SUBSTEPS, WATCHING = 1, 2  # audio sub-steps of a joint evaluation, and of a nearly finished video
WAY_SHARE, WAY_WIDTH = 0.5, 150.0  # share of the draws that lie on the way, and how far beside it in timesteps
MOVING = sum(sigma > 1 for sigma in SIGMAS[1:]) / (len(SIGMAS) - 2)  # the part of the way before the video's end
UNHEARD, UNSEEN = 300.0, 1.0  # timestep and sigma from where on a modality does not tell what happens
PALEST = 0.4  # least strength of what happens in a watched video


@dataclass(frozen=True)
class Dropout:
    """Shares of samples: isolated; without text (the picture suggests the effect); without any condition."""

    isolated: float = 0.25
    text: float = 0.3
    all: float = 0.1


def undecided(levels: Levels) -> Tensor:
    """Where neither modality tells what happens, [B], so that without a text the picture has to."""
    return (levels.video_sigma > UNSEEN) & (levels.audio_timestep > UNHEARD)


class JointTask:
    """The shared objective of both experts (jointdit.denoiser); everything above the autoencoders learns."""

    def __init__(
        self,
        model: TinyModel,
        denoiser: JointDenoiser,
        tokenizer: CLIPTokenizer,
        pool: LatentPool,
        sounds: SoundPool,
        batch: int,
        half_clips: float = 0.0,
    ) -> None:
        self.model, self.denoiser, self.tokenizer = model, denoiser, tokenizer
        self.pool, self.sounds, self.batch, self.dropout = pool, sounds, batch, Dropout()
        self.half_clips = half_clips
        self.way = denoiser.clock.grid(
            sigmas=torch.tensor(SIGMAS), audio="trailing", audio_substeps=AUDIO_SUBSTEPS, audio_start=AUDIO_START
        )
        self.held_out = torch.arange(HELD_OUT)  # the first ones, so that a growing pool keeps them
        suggested = pool.suggested()
        self.suggested = suggested[suggested >= HELD_OUT]
        if not len(self.suggested):
            raise ValueError(
                f"none of {len(pool.effects)} scenes shows what its picture suggests; give `cache` more --clips"
            )

    def draw(self, suggested: Tensor, generator: torch.Generator) -> Tensor:
        """Numbers of scenes [B]: any, but those whose picture suggests their effect where `suggested` [B]."""
        any_scene = torch.randint(HELD_OUT, len(self.pool.captions), suggested.shape, generator=generator)
        number = self.suggested[torch.randint(len(self.suggested), suggested.shape, generator=generator)]
        return torch.where(suggested, number, any_scene)

    def conditions(self, index: Tensor, silent: Tensor, null: Tensor, captions: list[str]) -> Conditioning:
        """Conditions of the scenes `index` [B]: without text where `silent`, without text and picture where `null`."""
        model, pool = self.model, self.pool
        texts = ["" if drop else caption for caption, drop in zip(captions, silent | null, strict=True)]
        keep = (~null).float()
        picture = pool.picture[index].float() / 127.5 - 1
        image = encode_clip_image(PROCESSOR, model.image_encoder, picture) * keep[:, None, None]
        latents = pool.image[index].float() * keep[:, None, None, None]
        text = encode_clip_text(self.tokenizer, model.text_encoder, texts)
        cond = join(image, latents, text, SHAPE.fps, MOTION_BUCKET, NOISE_AUGMENTATION)
        return speak_for_image(model.joint_blocks, cond, silent)

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        silent, null, isolated = torch.rand(3, self.batch, generator=generator)
        silent, null, isolated = silent < self.dropout.text, null < self.dropout.all, isolated < self.dropout.isolated
        part = 2 if progress < self.half_clips else 1
        levels = self.levels(generator)
        index = self.draw(silent & ~null & undecided(levels), generator)
        clean, cond = self.clips(index, silent, null, part)
        losses = self.denoiser.losses_with_substeps(clean, cond, isolated, levels, generator, SUBSTEPS)
        watching = self.denoiser.watching_losses(clean, cond, self.watched_levels(generator), generator, WATCHING)
        joint = sum(loss.mean() for loss in (*losses, watching) if len(loss))
        return joint + self.sound_loss(self.batch, part, generator)

    def levels(self, generator: torch.Generator, part: float = 1.0) -> Levels:
        """Training draws [B] of the clock; `WAY_SHARE` of them from the first `part` of the default sampler's way."""
        levels = self.denoiser.clock.sample_levels(self.batch, generator)
        chosen, share, shift = torch.rand(3, self.batch, generator=generator)
        way = self.way.between(part * share)
        audio = (way.audio_timestep + (2 * shift - 1) * WAY_WIDTH).clamp(0, self.denoiser.clock.audio_steps - 1)
        way = self.denoiser.clock.levels(way.video_sigma.double(), audio.double())
        pairs = zip(vars(way).values(), vars(levels).values(), strict=True)
        return Levels(*(torch.where(chosen < WAY_SHARE, one, other) for one, other in pairs))

    def watched_levels(self, generator: torch.Generator) -> Levels:
        """Levels [B] of a video that is nearly finished, or quite, as a given one is; the audio's are those of its
        sub-steps."""
        clock = self.denoiser.clock
        u = (torch.rand(self.batch, generator=generator, dtype=torch.float64) - 0.5).clamp(min=0)
        return clock.levels(clock.video_sigma(u), clock.sample_audio_levels(self.batch, generator).audio_timestep)

    def losses(
        self, index: Tensor, silent: Tensor, null: Tensor, isolated: Tensor, generator: torch.Generator, levels: Levels
    ) -> tuple[Tensor, Tensor]:
        """Squared error of the raw v and of the raw epsilon of the scenes `index` at `levels`, [B] each."""
        return self.denoiser.losses(*self.clips(index, silent, null), isolated, generator, levels)

    def clips(self, index: Tensor, silent: Tensor, null: Tensor, part: int = 1) -> tuple[JointLatents, Conditioning]:
        """The first 1 / part of the scenes `index` [B], and their conditions."""
        pool = self.pool
        video, audio = pool.video[index].float(), pool.audio[index].float()
        clean = JointLatents(video[:, : video.shape[1] // part], audio[:, :, : audio.shape[2] // part])
        return clean, self.conditions(index, silent, null, [pool.captions[row] for row in index.tolist()])

    def sound_loss(self, count: int, part: int, generator: torch.Generator) -> Tensor:
        """Error of the raw epsilon for sounds alone. Any picture stands beside them: the text has to decide."""
        index = torch.randint(len(self.sounds.captions), (count,), generator=generator)
        picture = torch.randint(HELD_OUT, len(self.pool.captions), (count,), generator=generator)
        audio = self.sounds.audio[index].float()
        captions = [self.sounds.captions[row] for row in index.tolist()]
        null = torch.rand(count, generator=generator) < self.dropout.all
        cond = self.conditions(picture, torch.zeros_like(null), null, captions)
        return self.denoiser.audio_losses(audio[:, :, : audio.shape[2] // part], cond, generator).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Errors of the clean estimates of held-out scenes where it is decided what happens when, beside the finished
        other modality, joint and isolated: what the Joint Blocks gain."""
        self.model.eval()
        clock = self.denoiser.clock
        found: dict[str, float] = {}
        for name, isolated in (("joint", False), ("isolated", True)):
            for modality, sigma, timestep in (("video", 30.0, 0.0), ("audio", clock.sigma_min, 850.0)):
                levels = clock.levels(*(torch.tensor([level], dtype=torch.float64) for level in (sigma, timestep)))
                parts = []
                for number, index in enumerate(self.held_out.split(self.batch)):
                    none = torch.zeros(len(index), dtype=torch.bool)
                    generator = torch.Generator().manual_seed(number)
                    losses = self.losses(index, none, none, none | isolated, generator, levels)
                    parts.append(losses[0 if modality == "video" else 1])
                square = levels.audio_sigma**2 if modality == "audio" else levels.video_sigma**2 / (1 + sigma**2)
                found[f"{modality}_{name}"] = (torch.cat(parts).mean() * square).item()
        return found


class VideoTask(JointTask):
    """The video expert with the video's halves of the Joint Blocks: what moves. The sound stands beside it as it is."""

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        silent, null, isolated = torch.rand(3, self.batch, generator=generator)
        silent, null, isolated = silent < self.dropout.text, null < self.dropout.all, isolated < self.dropout.isolated
        levels = self.levels(generator, MOVING)
        index = self.draw(silent & ~null & undecided(levels), generator)
        clean, cond = self.clips(index, silent, null)
        return self.denoiser.losses(clean, cond, isolated, generator, levels)[0].mean()


class SoundTask(JointTask):
    """The audio expert with the audio's halves of the Joint Blocks: beside a finished video, and alone."""

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        silent, null, suggested = torch.rand(3, self.batch, generator=generator) < torch.tensor([[0.35], [0.1], [0.5]])
        index = self.draw(silent & ~null & suggested, generator)  # a given video may show something else
        clean, cond = self.clips(index, silent, null)
        # What this model paints is paler than the scenes, and is to be heard as well.
        strength = rearrange(PALEST + (1 - PALEST) * torch.rand(self.batch, generator=generator), "b -> b 1 1 1 1")
        watched = replace(clean, video=torch.lerp(clean.video[:, :1], clean.video, strength))
        watching = self.denoiser.watching_losses(watched, cond, self.watched_levels(generator), generator, WATCHING)
        return watching.mean() + self.sound_loss(self.batch, 1, generator)
