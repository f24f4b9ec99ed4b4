"""Pictures, texts, a given video and a given sound to conditions.

The functions that take a `pipe` are methods of `JointDiTPipeline`, which is that `pipe`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel

from ..checkpoints.components import TEXT_ENCODERS
from ..diffusion.schedules import Modality
from ..encoders.autoencoders import to_model_range
from ..encoders.conditioning import (
    TextEmbeddings,
    add_image_residual,
    encode_audioldm2_text,
    encode_clip_image,
    encode_clip_text,
    join,
    pad_text,
    without_image,
)
from ..errors import InputError
from ..latents import ClipShape
from ..media import MAX_BYTES, Clip, exact_fps, fit_audio, fit_image, read_image, resample_audio
from ..media.image import Fit
from ..models.model import Conditioning
from ..options import MAX_SECONDS
from .components import JointDiTComponents
from .settings import chosen

MAX_AUDIO_TOKENS = 32_000  # of one clip, whatever the layout: each of them attends to all
Picture = np.ndarray | Image.Image | str | os.PathLike
Generators = torch.Generator | list[torch.Generator] | None  # a list: one for each picture


@dataclass(frozen=True)
class Conditions:
    """What B clips are sampled from.

    conditional: the pictures with their texts.
    unconditional: the other side of guidance: no picture, and no text or the negative one.
    shape: of each clip.
    pictured: the other side of the prompt's guidance: the pictures, with no text or the negative one. None where there
    are no texts.
    video_latents [B, F, C, h, w] or audio_latents [B, C, l, m]: this modality is given, scaled, and only the other one
    is sampled. Raises InputError where both are given.
    """

    conditional: Conditioning
    unconditional: Conditioning
    shape: ClipShape
    pictured: Conditioning | None = None
    video_latents: Tensor | None = None
    audio_latents: Tensor | None = None

    def __post_init__(self) -> None:
        if self.video_latents is not None and self.audio_latents is not None:
            raise InputError("both the video and the audio are given: nothing is left to sample; leave one out")

    @property
    def batch(self) -> int:
        """B."""
        return len(self.conditional.fps)

    @property
    def held(self) -> Modality | None:
        """The modality that is given."""
        if self.video_latents is not None:
            return "video"
        return "audio" if self.audio_latents is not None else None

    def repeated(self, times: int) -> Conditions:
        """All B clips, and all of them again."""
        index = torch.arange(self.batch).repeat(times)

        def again(side: Conditioning) -> Conditioning:
            return side.select(index.to(side.fps.device))

        pictured = None if self.pictured is None else again(self.pictured)
        video, audio = (
            None if given is None else given[index.to(given.device)]
            for given in (self.video_latents, self.audio_latents)
        )
        return Conditions(again(self.conditional), again(self.unconditional), self.shape, pictured, video, audio)

    def generator(self, seed: int) -> torch.Generator:
        """A generator of this seed as `condition` leaves one, after the noise on the pictures.

        With it, sampling alone gives the clip that conditioning and sampling with one generator give. (A generator
        cannot be moved on without drawing.)
        """
        generator = torch.Generator().manual_seed(seed)
        draw_picture_noise(self.shape, self.batch, generator)
        return generator


def draw_picture_noise(shape: ClipShape, batch: int, generator: Generators) -> Tensor:
    """The noise on B pictures, [B, 3, H, W]: a generator's first draw, as in diffusers."""
    return randn_tensor((batch, 3, shape.height, shape.width), generator=generator)


def clip_shape(
    pipe: JointDiTComponents,
    frames: int | None = None,
    fps: Fraction | float | str | None = None,
    height: int | None = None,
    width: int | None = None,
) -> ClipShape:
    """The asked shape, the model's defaults where None. Raises InputError with the nearest fitting size."""
    own = pipe.defaults
    rate, sides = exact_fps(chosen(fps, own.fps)), (chosen(height, own.height), chosen(width, own.width))
    asked = ClipShape(chosen(frames, own.frames), rate, *sides)
    if asked.frames < 1:
        raise InputError(f"frames is {asked.frames}, but must be at least 1")
    factor = pipe.layout.video_factor
    if asked.height % factor or asked.width % factor or min(asked.height, asked.width) < factor:
        nearest = "x".join(str(max(1, round(side / factor)) * factor) for side in (asked.width, asked.height))
        raise InputError(
            f"size is {asked.width}x{asked.height}, but both sides must be multiples of {factor}; use {nearest}"
        )
    if asked.bytes > MAX_BYTES:
        raise InputError(
            f"{asked.frames} frames of {asked.width}x{asked.height} are {asked.bytes / 2**30:.0f} GiB, but at most "
            f"{MAX_BYTES // 2**30} are made at once; ask for fewer or smaller ones"
        )
    if pipe.layout.audio_length(asked) < 2:
        raise InputError(
            f"{asked.frames} frames at {asked.fps} fps last {float(asked.seconds):.3f} s: too short for sound"
        )
    if asked.seconds > MAX_SECONDS or pipe.layout.audio_tokens(asked) > MAX_AUDIO_TOKENS:
        raise InputError(
            f"{asked.frames} frames at {float(asked.fps):g} fps last {float(asked.seconds):.0f} s, too long for one "
            f"clip (at most {MAX_SECONDS} s of sound, {MAX_AUDIO_TOKENS} tokens); ask for fewer frames or more fps"
        )
    return asked


@torch.no_grad()
def condition(
    pipe: JointDiTComponents,
    images: Sequence[Picture],
    prompts: Sequence[str | None],
    negative_prompts: Sequence[str | None],
    shape: ClipShape,
    generator: Generators = None,
    *,
    fit: Fit = "cover",
    motion_bucket: float | None = None,
    noise_augmentation: float | None = None,
    given_video: bool = False,
    texts: tuple[TextEmbeddings, TextEmbeddings] | None = None,
) -> Conditions:
    """Encodes B pictures and texts; an empty or blank text is none.

    generator: its first draw is the noise on the pictures.
    fit: how a picture of another shape fills the frame (`fit_image`).
    motion_bucket, noise_augmentation: as in Stable Video Diffusion; the model's own where None.
    given_video: the pictures are first frames of videos that are given.
    texts: the prompts and the negative prompts, if they are encoded already (`encode_texts`).
    """
    motion_bucket = chosen(motion_bucket, pipe.defaults.motion_bucket)
    noise_augmentation = chosen(noise_augmentation, pipe.defaults.noise_augmentation)
    fitted = np.stack([fit_image(as_picture(image), shape.height, shape.width, fit) for image in images])
    noise = draw_picture_noise(shape, len(images), generator).to(pipe.device)
    pixels = as_pixels(fitted).to(pipe.device)
    with pipe.using("video_vae"):
        latents = pipe.video_codec.encode_image(pixels + noise_augmentation * noise)
    with pipe.using("image_encoder"):
        image_embeds = encode_clip_image(pipe.feature_extractor, pipe.image_encoder, pixels)

    positive, negative = texts or encode_texts(pipe, prompts, negative_prompts)
    length = max(positive.audio_embeds_1.shape[1], negative.audio_embeds_1.shape[1])
    with_text, with_negative = (
        join(
            image_embeds,
            latents,
            pad_text(text, length),
            shape.fps,
            motion_bucket,
            noise_augmentation,
            pipe.video_origin,
        )
        for text in (positive, negative)
    )
    suggest = pipe.defaults.suggest_beside_video or not given_video
    dtype = pipe.video_unet.dtype

    def suggesting(side: Conditioning, texts: Sequence[str | None]) -> Conditioning:
        without_text = torch.tensor([suggest and not _unless_blank(text) for text in texts], device=pipe.device)
        return add_image_residual(pipe.joint_blocks, side.to(dtype), without_text)

    with pipe.using("joint_blocks"):
        conditional, pictured = suggesting(with_text, prompts), None
        if any(map(_unless_blank, (*prompts, *negative_prompts))):
            pictured = suggesting(with_negative, negative_prompts)
    return Conditions(conditional, without_image(with_negative.to(dtype)), shape, pictured)


@torch.no_grad()
def encode_texts(
    pipe: JointDiTComponents, prompts: Sequence[str | None], negative_prompts: Sequence[str | None]
) -> tuple[TextEmbeddings, TextEmbeddings]:
    """B prompts and B negative prompts; an empty or blank text is none."""
    texts, negative_texts = ([_unless_blank(text) for text in each] for each in (prompts, negative_prompts))
    with pipe.using(*TEXT_ENCODERS):
        return encode_text(pipe, texts), encode_text(pipe, negative_texts, beside=texts)


def encode_text(pipe: JointDiTComponents, texts: Sequence[str], beside: Sequence[str] | None = None) -> TextEmbeddings:
    """Texts through this model's own encoders, each distinct one once.

    beside: the texts that these are the negatives of, as `encode_audioldm2_text` has it.
    """
    if isinstance(pipe.text_encoder, CLIPTextModel):
        distinct = list(dict.fromkeys(texts))
        encoded = encode_clip_text(pipe.tokenizer, pipe.text_encoder, distinct)
        return encoded.select([distinct.index(text) for text in texts])
    names = (*TEXT_ENCODERS, "tokenizer", "tokenizer_2", "vocoder")
    parts: dict[str, Any] = {name: getattr(pipe, name) for name in names}
    parts |= {"vae": pipe.audio_vae, "unet": pipe.audio_unet, "scheduler": pipe.audio_scheduler}
    parts["feature_extractor"] = None
    encoders = diffusers.AudioLDM2Pipeline(**parts)  # imported here: `tiny` has no need of it
    pairs = list(zip(texts, beside or [""] * len(texts), strict=True))
    once = {pair: encode_audioldm2_text(encoders, *pair) for pair in dict.fromkeys(pairs)}
    return TextEmbeddings.cat([once[pair] for pair in pairs])


@torch.no_grad()
def encode_video(
    pipe: JointDiTComponents, video: Clip, shape: ClipShape, fewer: bool, fit: Fit = "cover"
) -> tuple[np.ndarray, ClipShape, Tensor]:
    """A video that is given: its first frame, uint8 [H, W, 3], the shape, and scaled latents [1, F, C, h, w].

    Frames are taken at the shape's rate. fewer: a shorter video makes a shorter shape, instead of an InputError.
    """
    there = int(video.seconds * shape.fps)
    if there < shape.frames:
        if not fewer:
            raise InputError(f"the video lasts {float(video.seconds):.2f} s, {there} frames; {shape.frames} are asked")
        shape = clip_shape(pipe, there, shape.fps, shape.height, shape.width)
    middles = [int((index + Fraction(1, 2)) / shape.fps * video.fps) for index in range(shape.frames)]
    frames = np.stack([fit_image(video.frames[index], shape.height, shape.width, fit) for index in middles])
    with pipe.using("video_vae"):
        return frames[0], shape, pipe.video_codec.encode_video(as_pixels(frames)[None].to(pipe.device))


@torch.no_grad()
def encode_audio(pipe: JointDiTComponents, samples: np.ndarray, rate: int, shape: ClipShape) -> Tensor:
    """A sound that is given, float32 [channels, n], as scaled latents [1, C, l, m] of the shape's duration."""
    mono = resample_audio(samples.mean(0, keepdims=True), rate, pipe.layout.sample_rate)
    fitted = torch.from_numpy(fit_audio(mono, shape.samples(pipe.layout.sample_rate)))
    with pipe.using("audio_vae"):
        return pipe.audio_codec.encode_audio(fitted.to(pipe.device))


def as_picture(image: Picture) -> np.ndarray:
    """uint8 [H, W, 3] of an array, a PIL image or a path."""
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    return read_image(image)


def as_pixels(frames: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] -> [..., 3, H, W] in -1..1."""
    return to_model_range(rearrange(torch.from_numpy(frames), "... h w c -> ... c h w"))


def _unless_blank(text: str | None) -> str:
    return text if text and text.strip() else ""
