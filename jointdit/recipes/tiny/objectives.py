"""What `train`, `videos` and `sounds` minimise: both experts together, the video expert alone, the audio expert alone.

Most samples are seen jointly; some are isolated, so that the experts also stand alone, which JointCFG needs; conditions
drop out, so that guidance has something to subtract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor
from transformers import CLIPTokenizer

from ...diffusion.denoiser import JointDenoiser, add_noise, clean_estimates, model_inputs, training_targets
from ...diffusion.schedules import Levels
from ...encoders.autoencoders import to_model_range
from ...encoders.conditioning import encode_clip_image, encode_clip_text, training_conditions
from ...errors import InputError
from ...latents import JointLatents
from ...models.model import Conditioning, JointDiTModel, KeptVideo
from ...train.losses import AudioDraws, PairLosses, noise_like
from ...train.noise_levels import draw_nearly_clean_video, levels_along
from .architecture import TinyModel, image_processor, noise_clock
from .cache import CachedScenes, CachedSounds, video_scale
from .recipe import TinyRecipe

HELD_OUT_TWINS = 4
COLOURS_JUDGED = 19.0, 700.0  # sigma and timestep
JUDGED = (("video", 30.0, 0.0), ("audio", 0.0, 850.0))  # sigma and timestep at which it is decided what happens when


class ExpertsObjective:
    """Both experts with all their sub-steps; everything above the autoencoders learns. Raises InputError for a cache
    without scenes that show what their picture suggests."""

    def __init__(
        self,
        recipe: TinyRecipe,
        model: TinyModel,
        tokenizer: CLIPTokenizer,
        scenes: CachedScenes,
        sounds: CachedSounds,
        batch: int,
    ) -> None:
        self.recipe, self.settings = recipe, recipe.experts
        self.model, self.tokenizer = model, tokenizer
        self.scenes, self.sounds, self.batch = scenes, sounds, batch
        self.processor = image_processor(recipe.architecture.picture_size)
        joint = JointDiTModel(model.video_unet, model.audio_unet, model.joint_blocks)
        self.denoiser = JointDenoiser(joint, noise_clock(recipe.sampling))
        self.clock = self.denoiser.clock
        self.pair_losses = PairLosses(self.denoiser, self.settings.heaviest)
        sampling = recipe.sampling
        self.sampling_path = self.clock.grid(
            sigmas=torch.tensor(sampling.sigmas),
            audio=sampling.audio_grid,
            audio_substeps=sampling.audio_substeps,
            audio_start=sampling.audio_start,
        )
        held_out = self.settings.held_out
        self.origin = video_scale(recipe) if sampling.around_picture else 0.0
        self.held_out = torch.arange(held_out)  # the first ones, so that a growing cache keeps them
        suggested = scenes.suggested()
        self.suggested = suggested[suggested >= held_out]
        if not len(self.suggested):
            raise InputError(
                f"none of {scenes.single} scenes shows what its picture suggests; give `cache` more --clips"
            )

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        """progress: 0 at the start of the run, 1 at its end; the first part of it sees half clips."""
        without_prompt, unconditional, isolated = self.draw_dropout(generator)
        from_scratch = self.recipe.start is None
        part = 2 if from_scratch and progress < self.settings.half_clips else 1
        levels = self.draw_levels(generator)
        index = self.draw_scenes(without_prompt & ~unconditional & self.events_hidden(levels), generator)
        clean, cond = self.clips(index, without_prompt, unconditional, part)
        noise = noise_like(clean, generator)
        substeps = self.draw_audio(clean.audio[~isolated], self.settings.substeps, generator)
        joint = self.pair_losses.joint(clean, noise, levels, cond, isolated, substeps)
        loss = joint.video.mean() + joint.audio.mean()
        if len(joint.substeps):
            loss = loss + joint.substeps.mean()
        given_video = self.given_video_losses(clean, cond, generator)
        return loss + given_video.mean() + self.sound_loss(self.batch, part, generator)

    def draw_audio(self, audio: Tensor, count: int, generator: torch.Generator) -> AudioDraws:
        """Draws for `count` evaluations of each of these sounds."""
        rows = audio.repeat(count, 1, 1, 1)
        return AudioDraws.draw(self.clock, rows, generator, self.settings.audio_noise_power)

    def draw_dropout(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Flags [B]: without prompt, unconditional, isolated."""
        shares = self.settings.dropout
        without_prompt, unconditional, isolated = torch.rand(3, self.batch, generator=generator)
        return without_prompt < shares.prompt, unconditional < shares.everything, isolated < shares.isolated

    def draw_levels(self, generator: torch.Generator, part: float = 1.0) -> Levels:
        """Training draws [B] of the clock; a share of them from the first `part` of the default sampler's path."""
        levels = self.clock.sample_levels(self.batch, generator)
        chosen, position, shift = torch.rand(3, self.batch, generator=generator)
        path = levels_along(self.sampling_path, part * position)
        audio = path.audio_timestep + (2 * shift - 1) * self.settings.path_width
        audio = audio.clamp(0, self.clock.audio_steps - 1)
        path = self.clock.levels(path.video_sigma.double(), audio.double())
        pairs = zip(vars(path).values(), vars(levels).values(), strict=True)
        return Levels(*(torch.where(chosen < self.settings.path_share, one, other) for one, other in pairs))

    def events_hidden(self, levels: Levels) -> Tensor:
        """Where noise hides in both modalities what happens, [B]: without a prompt, only the picture can say it."""
        hidden = self.settings.hidden_sigma, self.settings.hidden_timestep
        return (levels.video_sigma > hidden[0]) & (levels.audio_timestep > hidden[1])

    def draw_scenes(self, suggested: Tensor, generator: torch.Generator) -> Tensor:
        """Numbers of single scenes [B]: any, but those whose picture suggests their effect where `suggested` [B]."""
        held_out, count = self.settings.held_out, self.scenes.single
        any_scene = torch.randint(held_out, count, suggested.shape, generator=generator)
        number = self.suggested[torch.randint(len(self.suggested), suggested.shape, generator=generator)]
        return torch.where(suggested, number, any_scene)

    def clips(
        self, index: Tensor, without_prompt: Tensor, unconditional: Tensor, part: int = 1
    ) -> tuple[JointLatents, Conditioning]:
        """The first 1 / part of the scenes `index` [B], and their conditions."""
        captions = self.captions(index, without_prompt | unconditional)
        return self.latents(index, part), self.conditions(index, without_prompt, unconditional, captions)

    def latents(self, index: Tensor, part: int = 1) -> JointLatents:
        """The first 1 / part of the scenes `index` [B]."""
        video, audio = self.scenes.video[index].float(), self.scenes.audio[index].float()
        return JointLatents(video[:, : video.shape[1] // part], audio[:, :, : audio.shape[2] // part])

    def captions(self, index: Tensor, dropped: Tensor) -> list[str]:
        """Of the scenes `index` [B], empty where `dropped` [B]."""
        pairs = zip(index.tolist(), dropped.tolist(), strict=True)
        return ["" if drop else self.scenes.captions[row] for row, drop in pairs]

    def conditions(
        self, index: Tensor, without_prompt: Tensor, unconditional: Tensor, captions: Sequence[str]
    ) -> Conditioning:
        """Conditions of captions beside the pictures of the scenes `index` [B], dropped where the flags [B] say so."""
        model, scenes, sampling = self.model, self.scenes, self.recipe.sampling
        empty = (without_prompt | unconditional).tolist()
        texts = ["" if drop else caption for caption, drop in zip(captions, empty, strict=True)]
        return training_conditions(
            model.joint_blocks,
            encode_clip_image(self.processor, model.image_encoder, to_model_range(scenes.picture[index])),
            scenes.image[index].float(),
            encode_clip_text(self.tokenizer, model.text_encoder, texts),
            without_prompt,
            unconditional,
            self.recipe.shape.fps,
            sampling.motion_bucket,
            sampling.noise_augmentation,
            self.origin,
        )

    def given_video_losses(self, clean: JointLatents, conditioning: Conditioning, generator: torch.Generator) -> Tensor:
        """Losses of audio sub-steps that attend to a nearly clean video, in which it can be seen what happens when."""
        levels = draw_nearly_clean_video(self.clock, self.batch, generator, self.settings.audio_noise_power)
        noise = noise_like(clean, generator)
        substeps = self.draw_audio(clean.audio, self.settings.given_video_substeps, generator)
        seen = self.see_video(clean, noise, levels, conditioning)
        return self.pair_losses.beside(clean.audio, conditioning, seen, substeps)

    def see_video(
        self, clean: JointLatents, noise: JointLatents, levels: Levels, conditioning: Conditioning
    ) -> KeptVideo:
        """What the sound attends to of the video at `levels` [B]."""
        return self.pair_losses.see_video(clean, noise, levels, conditioning)

    def sound_loss(self, count: int, part: int, generator: torch.Generator) -> Tensor:
        """Error of the raw epsilon for sounds alone. The picture among their conditions is that of any scene, so that
        the text decides."""
        index = torch.randint(len(self.sounds.captions), (count,), generator=generator)
        picture = torch.randint(self.settings.held_out, self.scenes.single, (count,), generator=generator)
        audio = self.sounds.audio[index].float()
        captions = [self.sounds.captions[row] for row in index.tolist()]
        unconditional = torch.rand(count, generator=generator) < self.settings.dropout.everything
        cond = self.conditions(picture, torch.zeros_like(unconditional), unconditional, captions)
        audio = audio[:, :, : audio.shape[2] // part]
        return self.pair_losses.audio_alone(audio, self.draw_audio(audio, 1, generator), cond).mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Errors of the clean estimates of held-out scenes where it is decided what happens when, given the finished
        other modality, joint and isolated: what the Joint Blocks gain."""
        self.model.eval()
        found: dict[str, float] = {}
        for name, isolated in (("joint", False), ("isolated", True)):
            for modality, sigma, timestep in JUDGED:
                sigma = max(sigma, self.clock.sigma_min)
                levels = self.clock.levels(*(torch.tensor([level], dtype=torch.float64) for level in (sigma, timestep)))
                parts = []
                for number, index in enumerate(self.held_out.split(self.batch)):
                    none = torch.zeros(len(index), dtype=torch.bool)
                    clean, cond = self.clips(index, none, none)
                    generator = torch.Generator().manual_seed(number)
                    video, audio = self.denoiser.losses(clean, cond, none | isolated, generator, levels)
                    parts.append(video if modality == "video" else audio)
                square = levels.audio_sigma**2 if modality == "audio" else levels.video_sigma**2 / (1 + sigma**2)
                found[f"{modality}_{name}"] = (torch.cat(parts).mean() * square).item()
        return found


class VideoObjective(ExpertsObjective):
    """For the video expert and the video's halves of the Joint Blocks, at the noise levels where the video moves."""

    @property
    def twins(self) -> Tensor:
        """Those that are trained on."""
        return self.scenes.twins[HELD_OUT_TWINS:]

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        without_prompt, unconditional, isolated = self.draw_dropout(generator)
        levels = self.draw_levels(generator, self.recipe.sampling.part_above(self.settings.moving_sigma))
        levels = self.draw_painting(levels, generator)
        index = self.draw_scenes(without_prompt & ~unconditional & self.events_hidden(levels), generator)
        twins = self.draw_twins(generator)
        index[: len(twins)] = twins
        without_prompt[: len(twins)] = unconditional[: len(twins)] = False
        clean, cond = self.clips(index, without_prompt, unconditional)
        source = self.first_of_twins(len(twins))
        levels, isolated = levels.select(source), isolated[source]
        noise = noise_like(clean, generator).map(lambda each: each[source])
        raw = self.denoiser.model(*model_inputs(add_noise(clean, noise, levels), levels, cond), cond, isolated)
        errors = (raw.video.float() - training_targets(clean, noise, levels, cond).video).square()
        return (errors * change_weight(clean.video, self.recipe.videos.change_weight)).mean()

    def draw_twins(self, generator: torch.Generator) -> Tensor:
        """Numbers of scenes for the share `twins` of a batch, twins beside each other; none for a cache without."""
        twins = self.twins
        count = round(self.recipe.videos.twins * self.batch) // twins.shape[1] if len(twins) else 0
        return twins[torch.randint(len(twins), (count,), generator=generator)].flatten() if count else twins[:0, 0]

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Also the errors of held-out twins under their own captions and under those of another colour: the further
        these are apart, the more the words for colours say."""
        found, twins = super().evaluate(), self.scenes.twins[:HELD_OUT_TWINS]
        sigma, timestep = COLOURS_JUDGED
        levels = self.clock.levels(*(torch.tensor([each], dtype=torch.float64) for each in (sigma, timestep)))
        for name, told in (("own", twins), ("another", twins.roll(1, 1))) if len(twins) else ():
            errors = []
            for index, captions in zip(twins, told, strict=True):
                none = torch.zeros(len(index), dtype=torch.bool)
                cond = self.conditions(index, none, none, self.captions(captions, none))
                generator = torch.Generator().manual_seed(0)
                errors.append(self.denoiser.losses(self.latents(index), cond, none, generator, levels)[0])
            found[f"video_{name}_colour"] = torch.cat(errors).mean().item() * sigma**2 / (1 + sigma**2)
        return found

    def first_of_twins(self, count: int) -> Tensor:
        """The rows [B] whose noise each sample of a batch takes: twins, the first `count`, that of their first."""
        rows = torch.arange(self.batch)
        rows[:count] -= rows[:count] % self.scenes.twins.shape[1]
        return rows

    def draw_painting(self, levels: Levels, generator: torch.Generator) -> Levels:
        """`levels` [B], with the video's sigma drawn anew in `painting_share` of them; the audio's stays."""
        stage = self.recipe.videos
        if not stage.painting_share:
            return levels
        chosen, position = torch.rand(2, self.batch, generator=generator)
        sigma = levels_between(*stage.painting_sigmas, position)
        return replace(levels, video_sigma=torch.where(chosen < stage.painting_share, sigma, levels.video_sigma))


class SoundObjective(ExpertsObjective):
    """For the audio expert and the audio's halves of the Joint Blocks: given a nearly clean video, and alone."""

    def loss(self, generator: torch.Generator, progress: float) -> Tensor:
        stage = self.recipe.sounds
        shares = torch.tensor([[stage.without_prompt], [stage.unconditional], [stage.suggested]])
        without_prompt, unconditional, suggested = torch.rand(3, self.batch, generator=generator) < shares
        index = self.draw_scenes(without_prompt & ~unconditional & suggested, generator)
        clean = self.latents(index)
        captions = self.captions(index, without_prompt | unconditional)
        cond = self.conditions(index, without_prompt & suggested, unconditional, captions)
        if stage.painted:
            clean = self.paint(clean, cond, generator)
        strength = stage.faintest + (1 - stage.faintest) * torch.rand(self.batch, generator=generator)
        paler = torch.lerp(clean.video[:, :1], clean.video, rearrange(strength, "b -> b 1 1 1 1"))
        given_video = self.given_video_losses(replace(clean, video=paler), cond, generator)
        return given_video.mean() + self.sound_loss(self.batch, 1, generator)

    def see_video(
        self, clean: JointLatents, noise: JointLatents, levels: Levels, conditioning: Conditioning
    ) -> KeptVideo:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.sounds.bfloat16):
            return super().see_video(clean, noise, levels, conditioning).to(clean.video.dtype)

    @torch.no_grad()
    def paint(self, clean: JointLatents, conditioning: Conditioning, generator: torch.Generator) -> JointLatents:
        """`clean`, with a share of its videos as the model paints them from their noise, beside their clean sound."""
        stage = self.recipe.sounds
        draws, position = torch.rand(2, self.batch, generator=generator)
        noise = noise_like(clean, generator)
        chosen = torch.nonzero(draws < stage.painted).flatten()
        if not len(chosen):
            return clean
        sigma = levels_between(*stage.painted_sigmas, position[chosen]).double()
        levels = self.clock.levels(sigma, torch.zeros_like(sigma)).select(torch.arange(len(chosen)))
        cond = conditioning.select(chosen)
        before, added = (JointLatents(each.video[chosen], each.audio[chosen]) for each in (clean, noise))
        noisy = add_noise(before, added, levels)
        with torch.autocast("cpu", torch.bfloat16, enabled=stage.bfloat16):
            raw = self.denoiser.model(*model_inputs(noisy, levels, cond), cond, isolated=False)
        return replace(clean, video=clean.video.index_copy(0, chosen, clean_estimates(noisy, raw, levels, cond).video))


def change_weight(video: Tensor, heaviest: float) -> Tensor:
    """Weights [B, F, 1, h, w] of a video's errors, 1 on average: 1 where it stays as its first frame is, and up to
    1 + `heaviest` times that where it changes most."""
    change = (video - video[:, :1]).square().mean(2, keepdim=True)
    weight = 1 + heaviest * change / (change + change.mean() + 1e-6)
    return weight / weight.mean()


def levels_between(low: float, high: float, position: Tensor) -> Tensor:
    """From `low` at position 0 to `high` at 1, even in the logarithm."""
    return low * (high / low) ** position
