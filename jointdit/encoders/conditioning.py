"""From a picture and texts to what both experts and the Joint Blocks are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from einops import repeat
from torch import Tensor

from ..models.joint_block import JointBlocks
from ..models.model import Conditioning

if TYPE_CHECKING:
    from diffusers import AudioLDM2Pipeline
    from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection


@dataclass(frozen=True)
class TextEmbeddings:
    """Texts as the audio expert and the Joint Blocks read them; B texts.

    audio_embeds [B, S0, D0], audio_embeds_1 [B, S1, D1] with audio_mask_1 [B, S1], context [B, Nt, Dt].
    """

    audio_embeds: Tensor
    audio_embeds_1: Tensor
    audio_mask_1: Tensor
    context: Tensor

    def select(self, rows: Sequence[int]) -> TextEmbeddings:
        """The texts `rows`, repeats allowed."""
        return TextEmbeddings(*(getattr(self, each.name)[list(rows)] for each in fields(self)))

    @staticmethod
    def cat(items: Sequence[TextEmbeddings]) -> TextEmbeddings:
        """All texts of all items, in order, padded to the longest."""
        length = max(item.audio_embeds_1.shape[1] for item in items)
        padded = [pad_text(item, length) for item in items]
        return TextEmbeddings(
            *(torch.cat([getattr(item, each.name) for item in padded]) for each in fields(TextEmbeddings))
        )


def encode_clip_text(tokenizer: CLIPTokenizer, encoder: CLIPTextModel, texts: Sequence[str]) -> TextEmbeddings:
    """One small CLIP text encoder feeds both streams of the audio expert and the Joint Blocks (`tiny`).

    Sequences are padded to the encoder's full length; the second stream of the audio expert masks the padding, the
    others read it, as is the custom with CLIP.
    """
    tokens = tokenizer(
        list(texts),
        padding="max_length",
        max_length=encoder.config.max_position_embeddings,
        truncation=True,
        return_tensors="pt",
    ).to(encoder.device)
    hidden = encoder(tokens.input_ids).last_hidden_state
    return TextEmbeddings(hidden, hidden, tokens.attention_mask, hidden)


def encode_audioldm2_text(pipeline: AudioLDM2Pipeline, text: str, beside: str = "") -> TextEmbeddings:
    """AudioLDM2's own encoders: GPT-2's eight generated states and Flan-T5's sequence. One text at a time: the states
    depend on the length that the others of a batch would pad it to.

    beside: the text that this one is the negative of; AudioLDM2 pads the negative to its length.
    The eight states are also the Joint Blocks' context: always the same number of tokens, so no mask is needed.
    """
    device = pipeline.text_encoder.device  # the other components may rest elsewhere
    both: Any = pipeline.encode_prompt([text, beside] if beside else [text], device, 1, False)
    sequence, mask, generated = (each[:1] for each in both)
    return TextEmbeddings(generated, sequence, mask, generated)


def encode_clip_image(processor: CLIPImageProcessor, encoder: CLIPVisionModelWithProjection, pixels: Tensor) -> Tensor:
    """Picture [B, 3, H, W] in -1..1 -> CLIP embedding [B, 1, D], prepared as Stable Video Diffusion does."""
    side = encoder.config.image_size
    resized = (_resize_with_antialiasing(pixels.float(), (side, side)) + 1) / 2
    mean, std = (resized.new_tensor(values).reshape(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    return encoder(((resized - mean) / std).to(encoder.device, encoder.dtype)).image_embeds[:, None]


def pad_text(text: TextEmbeddings, length: int) -> TextEmbeddings:
    """The second sequence lengthened to `length` with masked zeros, so that texts of two lengths share a batch."""
    missing = length - text.audio_embeds_1.shape[1]
    if missing == 0:
        return text
    return replace(
        text,
        audio_embeds_1=torch.nn.functional.pad(text.audio_embeds_1, (0, 0, 0, missing)),
        audio_mask_1=torch.nn.functional.pad(text.audio_mask_1, (0, missing)),
    )


def join(
    image_embeds: Tensor,
    image_latents: Tensor,
    text: TextEmbeddings,
    fps: Fraction,
    motion_bucket: float,
    noise_augmentation: float,
    origin: float = 0.0,
) -> Conditioning:
    """One `Conditioning` of a picture's embedding [B, 1, D] and latents [B, C, h, w] and of B texts.

    origin: the video is measured from the picture's latents times this.
    Stable Video Diffusion was trained on fps - 1 (diffusers' pipeline does the same).
    """
    ids = image_embeds.new_tensor([float(fps) - 1, motion_bucket, noise_augmentation])
    return Conditioning(
        video_embeds=image_embeds,
        added_time_ids=repeat(ids, "i -> b i", b=image_embeds.shape[0]),
        image_latents=image_latents,
        video_origin=image_latents.float() * origin,
        audio_embeds=text.audio_embeds,
        audio_embeds_1=text.audio_embeds_1,
        audio_mask_1=text.audio_mask_1,
        context_image=image_embeds,
        context_text=text.context,
        fps=torch.full((image_embeds.shape[0],), float(fps), device=image_embeds.device),
    )


def without_image(cond: Conditioning) -> Conditioning:
    """The null picture: zeros, as Stable Video Diffusion has it. What the video is measured from stays: it says how to
    read the latents, and is no condition."""
    return replace(
        cond,
        video_embeds=torch.zeros_like(cond.video_embeds),
        image_latents=torch.zeros_like(cond.image_latents),
        context_image=torch.zeros_like(cond.context_image),
    )


def add_image_residual(joint_blocks: JointBlocks, cond: Conditioning, without_prompt: Tensor) -> Conditioning:
    """Adds to the text embeddings of the samples without a prompt, `without_prompt` [B], what was learned to stand in
    for one: a residual from their image."""
    first, second = joint_blocks.image_to_audio(cond.video_embeds)
    weight = without_prompt.to(first.dtype).reshape(-1, 1, 1)
    return replace(
        cond, audio_embeds=cond.audio_embeds + weight * first, audio_embeds_1=cond.audio_embeds_1 + weight * second
    )


def training_conditions(
    joint_blocks: JointBlocks,
    image_embeds: Tensor,
    image_latents: Tensor,
    text: TextEmbeddings,
    without_prompt: Tensor,
    unconditional: Tensor,
    fps: Fraction,
    motion_bucket: float,
    noise_augmentation: float,
    origin: float = 0.0,
) -> Conditioning:
    """`join` with conditions dropped, so that guidance later has something to subtract.

    text: embeddings of the empty text for the samples of either flag.
    without_prompt: [B], samples whose text is dropped: the image's residual is added.
    unconditional: [B], samples whose text and image are dropped: the null image, and no residual.
    """
    keep = (~unconditional).float()
    embeds, latents = image_embeds * keep[:, None, None], image_latents * keep[:, None, None, None]
    cond = join(embeds, latents, text, fps, motion_bucket, noise_augmentation)
    cond = replace(cond, video_origin=image_latents.float() * origin)  # also where the picture is dropped
    return add_image_residual(joint_blocks, cond, without_prompt & ~unconditional)
