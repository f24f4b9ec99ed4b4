"""Image in, sounding clip out: the only module that composes the others.

image -> conditions -> latents -> denoiser -> samplers -> decode -> clip
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, TypedDict, TypeVar, overload

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..diffusion import samplers
from ..diffusion.denoiser import JointDenoiser
from ..diffusion.guidance import GuidedDenoiser, JointCFG
from ..diffusion.reuse import Reuse
from ..diffusion.schedules import AudioGrid
from ..diffusion.sync_guidance import SyncedDenoiser, SyncGuidance, loudness_readout
from ..diffusion.windows import Known, WindowedDenoiser
from ..errors import InputError
from ..latents import JointLatents, Windows
from ..media import Clip, fit_audio
from ..media.image import Fit
from ..models.joint_start import are_closed
from . import decode, encode
from .components import JointDiTComponents
from .encode import Conditions, Generators, Picture
from .long import make_long
from .preview import FastDecoder
from .retake import retake
from .settings import SAMPLERS, SamplingSettings, chosen

if TYPE_CHECKING:
    from typing_extensions import Unpack

P = TypeVar("P", bound=Picture)
Callback = Callable[[str, int, int], None]
Texts = str | Sequence[str | None] | None  # one for all pictures, or one for each


class CallOptions(TypedDict, total=False):
    """The keywords of `JointDiTPipeline.__call__`, for its two types of result."""

    video: Clip | None
    audio: tuple[np.ndarray, int] | None
    frames: int | None
    fps: Fraction | float | str | None
    height: int | None
    width: int | None
    settings: SamplingSettings | None
    steps: int | None
    sigmas: Tensor | Sequence[float] | None
    sampler: str | None
    guidance: JointCFG | None
    audio_grid: AudioGrid | Tensor | None
    audio_substeps: int | None
    video_temperature: float | None
    fresh_noise: float | None
    isolated: bool | None
    sync: SyncGuidance | None
    reuse: Reuse | None
    fit: Fit
    motion_bucket: float | None
    noise_augmentation: float | None
    decode_chunk_size: int | None
    generator: Generators
    callback: Callback | None
    preview: Callable[[np.ndarray], None] | None


class JointDiTPipeline(JointDiTComponents):
    """Turns a picture, and a text if wanted, into a clip whose sound belongs to it."""

    # What a clip is made of, in order, and with `sample` between them. Each step stands alone, so that the nodes can
    # show them one by one.
    shape = encode.clip_shape
    encode_video = encode.encode_video
    encode_audio = encode.encode_audio
    encode_text = encode.encode_text
    condition = encode.condition
    decode_video = decode.decode_video
    decode_audio = decode.decode_audio
    long = make_long
    retake = retake

    @torch.no_grad()
    def sample(
        self,
        conditions: Conditions,
        settings: SamplingSettings = SamplingSettings(),  # noqa: B008, frozen
        *,
        generator: Generators = None,
        max_batch: int | None = None,
        callback: samplers.Callback | None = None,
        windows: Windows | None = None,
        known: Known | None = None,
    ) -> JointLatents:
        """Scaled latents of both modalities, float32.

        generator: draws the video's noise and then the audio's, after `condition` has drawn the pictures', and last
        the fresh noise of each step.
        max_batch: rows of one evaluation of the model, samples times guidance passes; the memory settings' where None.
        callback: called after each step with (steps done, steps, clean estimates).
        windows: the conditions are those of K windows of one longer clip, which are denoised together: the result is
        that clip, [1, T, ...]. Latents that the conditions give are the clip's, too.
        known: parts of the clip (or of every clip) that stay as they are.
        """
        if settings.sync is not None and conditions.held == "audio":
            raise InputError("sync pulls the sound, but the sound is given; leave one out")
        clock = self.clock
        grid = settings.grid(self.defaults, clock, conditions.held)
        video_shape = self.layout.video_shape(conditions.shape, conditions.batch)
        audio_shape = self.layout.audio_shape(conditions.shape, conditions.batch)
        if windows is not None:
            video_shape = (1, windows.frames, *video_shape[2:])
            audio_shape = (1, audio_shape[1], windows.audio_latents, audio_shape[3])
        noise = JointLatents(
            randn_tensor(video_shape, generator=generator), randn_tensor(audio_shape, generator=generator)
        ).map(lambda noise: noise.to(self.device))
        start = samplers.initial_noise(noise, grid, chosen(settings.video_temperature, self.defaults.video_temperature))
        if conditions.video_latents is not None:
            start = samplers.hold_video(start, conditions.video_latents.to(self.device))
        if conditions.audio_latents is not None:
            start = samplers.hold_audio(start, conditions.audio_latents.to(self.device), grid)
        joint = JointDenoiser(self.model, clock, max_batch or self.memory.max_batch, settings.reuse)
        denoise = self._guided(joint, conditions, settings, hold_first=known is None)
        if windows is not None:
            denoise = WindowedDenoiser(denoise, windows)
        if known is not None:
            known = known.map(lambda part: part.to(self.device))
            denoise = known.hold(denoise, samplers.audio_scale(grid))
        fresh = samplers.FreshNoise(
            chosen(settings.fresh_noise, self.defaults.fresh_noise),
            lambda: randn_tensor(video_shape, generator=generator).to(self.device),
        )
        with self.using("video_unet", "audio_unet", "joint_blocks"):
            latents = SAMPLERS[settings.sampler](denoise, start, grid, callback, fresh)
        return latents if known is None else known.put(latents)

    def _guided(
        self, joint: JointDenoiser, conditions: Conditions, settings: SamplingSettings, hold_first: bool
    ) -> samplers.Denoise:
        """The joint denoiser as a sampler calls it, with all that steers it. hold_first: for models that start with
        their picture; where parts are known, those are held instead."""
        own, sides = self.guidance, (conditions.conditional, conditions.unconditional, conditions.pictured)
        guidance = own if settings.guidance is None else settings.guidance.filled_from(own)
        if self.defaults.scale_range is not None:
            guidance.warn_beyond(*self.defaults.scale_range)
        isolated = settings.isolated or are_closed(self.joint_blocks)  # the same numbers, but fewer predictions
        denoise: samplers.Denoise = GuidedDenoiser(joint, guidance, *sides, isolated)
        if hold_first and self.defaults.hold_first_frame and conditions.held != "video":
            first = conditions.conditional.image_latents.float() * self.video_vae.config.scaling_factor
            denoise = samplers.FirstFrameHeld(denoise, first)
        if settings.sync is not None and settings.sync.strength:
            with self.using("audio_vae"):
                denoise = SyncedDenoiser(denoise, settings.sync, loudness_readout(self.audio_codec))
        return denoise

    @overload
    def __call__(
        self,
        image: Picture | None = None,
        prompt: Texts = None,
        negative_prompt: Texts = None,
        **options: Unpack[CallOptions],
    ) -> Clip: ...

    @overload
    def __call__(
        self,
        image: list[P] | tuple[P, ...],
        prompt: Texts = None,
        negative_prompt: Texts = None,
        **options: Unpack[CallOptions],
    ) -> list[Clip]: ...

    @torch.no_grad()
    def __call__(
        self,
        image: Picture | list[P] | tuple[P, ...] | None = None,
        prompt: Texts = None,
        negative_prompt: Texts = None,
        *,
        video: Clip | None = None,
        audio: tuple[np.ndarray, int] | None = None,
        frames: int | None = None,
        fps: Fraction | float | str | None = None,
        height: int | None = None,
        width: int | None = None,
        settings: SamplingSettings | None = None,
        steps: int | None = None,
        sigmas: Tensor | Sequence[float] | None = None,
        sampler: str | None = None,
        guidance: JointCFG | None = None,
        audio_grid: AudioGrid | Tensor | None = None,
        audio_substeps: int | None = None,
        video_temperature: float | None = None,
        fresh_noise: float | None = None,
        isolated: bool | None = None,
        sync: SyncGuidance | None = None,
        reuse: Reuse | None = None,
        fit: Fit = "cover",
        motion_bucket: float | None = None,
        noise_augmentation: float | None = None,
        decode_chunk_size: int | None = None,
        generator: Generators = None,
        callback: Callback | None = None,
        preview: Callable[[np.ndarray], None] | None = None,
    ) -> Clip | list[Clip]:
        """One picture becomes a `Clip`, a list of pictures a list of clips.

        image: uint8 [H, W, 3], a PIL image or a path.
        prompt, negative_prompt: one for all pictures, or a list as long as theirs; an empty text is none.
        video: instead of a picture: this video stays as it is, from its start, and gets a sound.
        audio: samples, float32 [channels, n], and their rate: the picture moves to this sound, which stays as it is.
        frames, fps, height, width: shape of the clips; the model's own where None.
        settings: how to sample. Each of its fields can also be given by itself (steps, sigmas, sampler, guidance,
        audio_grid, audio_substeps, video_temperature, fresh_noise, isolated, sync, reuse) and then wins over
        that of `settings`.
        fit, motion_bucket, noise_augmentation: of the picture, as in `condition`.
        decode_chunk_size: frames that are decoded at once; the memory settings' where None.
        generator: fixes every random number; the same seed gives the same bytes at the same batch size and number of
        threads. With one for each picture, a clip has the same noise whatever is beside it; sums are then rounded in
        another order, so that a small share of the pixels differs, by 1.
        callback: called with (stage, done, total), from done 0 on; the stages are "sample" and "decode".
        preview: called after each step with the frames of the first clip as they are by then, uint8 [F, h, w, 3], one
        pixel a latent.
        """
        report = callback or (lambda stage, done, total: None)
        settings = (settings or SamplingSettings()).changed(
            steps=steps,
            sigmas=sigmas,
            sampler=sampler,
            guidance=guidance,
            audio_grid=audio_grid,
            audio_substeps=audio_substeps,
            video_temperature=video_temperature,
            fresh_noise=fresh_noise,
            isolated=isolated,
            sync=sync,
            reuse=reuse,
        )
        shape, video_latents, audio_latents = self.shape(frames, fps, height, width), None, None
        if video is not None:
            if image is not None:
                raise InputError("both a picture and a video are given; the video's first frame is the picture")
            image, shape, video_latents = self.encode_video(video, shape, frames is None, fit)
        if image is None:
            raise InputError("no picture is given; give one, or a video")
        images = list(image) if isinstance(image, list | tuple) else [image]
        if audio is not None:
            audio_latents = self.encode_audio(*audio, shape).expand(len(images), -1, -1, -1)
        prompts, negative_prompts = (_one_each(text, len(images)) for text in (prompt, negative_prompt))
        conditions = self.condition(
            images,
            prompts,
            negative_prompts,
            shape,
            generator,
            fit=fit,
            motion_bucket=motion_bucket,
            noise_augmentation=noise_augmentation,
            given_video=video is not None,
        )
        conditions = replace(conditions, video_latents=video_latents, audio_latents=audio_latents)

        report("sample", 0, self.grid(settings, conditions.held).steps)
        look = FastDecoder.of(self, conditions, images[0], fit) if preview else None

        def after_step(done: int, total: int, estimate: JointLatents) -> None:
            report("sample", done, total)
            if preview and look:
                preview(look(estimate.video[0]))

        latents = self.sample(conditions, settings, generator=generator, callback=after_step)
        rate = self.layout.sample_rate
        if video is not None:
            return decode.with_sound(video, shape, self.decode_audio(latents.audio, shape)[0], rate)
        pictures = self.decode_video(
            latents.video, decode_chunk_size, progress=lambda done, total: report("decode", done, total)
        )
        if audio is None:
            sounds = self.decode_audio(latents.audio, shape)
        else:
            samples, rate = audio
            sounds = [fit_audio(samples, shape.samples(rate))] * len(images)
        clips = [Clip(each, shape.fps, sound, rate) for each, sound in zip(pictures, sounds, strict=True)]
        return clips if isinstance(image, list | tuple) else clips[0]


def _one_each(text: Texts, count: int) -> list[str | None]:
    texts = [text] * count if text is None or isinstance(text, str) else list(text)
    if len(texts) != count:
        raise InputError(f"{len(texts)} texts for {count} pictures; give one for all, or one for each")
    return texts
