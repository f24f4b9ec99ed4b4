"""The architecture of the bundled model `tiny`: the real classes at small size.

Its scenes are 20 frames of 128 x 128 at 12.5 frames a second with 1.6 s of 16 kHz sound, so that one frame lasts 80 ms,
as long as one token of the audio expert after In, and every side stays even through all levels of both UNets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import torch
from diffusers import (
    AudioLDM2UNet2DConditionModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ...latents import ClipShape
from ...models.joint_block import JointBlocks

SHAPE = ClipShape(frames=20, fps=Fraction(25, 2), height=128, width=128)
MOTION_BUCKET = 127
NOISE_AUGMENTATION = 0.02
TEXT_WIDTH = 64
TEXT_LENGTH = 24
IMAGE_WIDTH = 64
PICTURE_SIZE = 64  # what the image encoder sees
VIDEO_CHANNELS = (128, 96, 64)  # four channels a norm group at both ends, as the linear start needs
AUDIO_CHANNELS = (64, 64, 64)
JOINT_STAGES = (0, 1, 3)
PACK = 2  # video latents a side that one UNet token holds
VOCABULARY = 800
# The way of the default sampler. Below 2 the small model leaves more noise than it removes, so the video goes from
# there to its end at once; in the last three steps the sound follows.
SIGMAS = (200.0, 130.0, 83.0, 52.0, 32.0, 19.0, 11.0, 6.5, 4.0, 2.0, 0.02, 0.01, 0.005, 0.0)
AUDIO_SUBSTEPS, AUDIO_START = 8, 970.0
# Noise levels of the two pretrained models, which the small ones share; but their few latents are lost in less noise.
VIDEO_SCHEDULER = EulerDiscreteScheduler(
    prediction_type="v_prediction",
    timestep_type="continuous",
    timestep_spacing="leading",
    use_karras_sigmas=True,
    sigma_min=0.002,
    sigma_max=SIGMAS[0],
)
AUDIO_SCHEDULER = DDIMScheduler(
    beta_start=0.0015,
    beta_end=0.0195,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
    timestep_spacing="leading",
)
PROCESSOR = CLIPImageProcessor(
    size={"shortest_edge": PICTURE_SIZE}, crop_size={"height": PICTURE_SIZE, "width": PICTURE_SIZE}
)


class TinyModel(nn.Module):
    """What is trained together on top of the finished autoencoders. Every part is a component of the saved model."""

    def __init__(self, vocabulary: int, video_channels: int, audio_channels: int) -> None:
        super().__init__()
        self.video_unet = UNetSpatioTemporalConditionModel(
            in_channels=2 * video_channels,
            out_channels=video_channels,
            down_block_types=("DownBlockSpatioTemporal",) * 2 + ("CrossAttnDownBlockSpatioTemporal",),
            up_block_types=("CrossAttnUpBlockSpatioTemporal",) + ("UpBlockSpatioTemporal",) * 2,
            block_out_channels=VIDEO_CHANNELS,
            addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=96,
            layers_per_block=1,
            cross_attention_dim=IMAGE_WIDTH,
            num_attention_heads=(4, 4, 2),
            num_frames=SHAPE.frames,
            sample_size=8,
        )
        self.audio_unet = AudioLDM2UNet2DConditionModel(
            in_channels=audio_channels,
            out_channels=audio_channels,
            down_block_types=("DownBlock2D",) * 2 + ("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * 2,
            block_out_channels=AUDIO_CHANNELS,
            layers_per_block=1,
            attention_head_dim=4,
            norm_num_groups=16,
            cross_attention_dim=((None, TEXT_WIDTH, TEXT_WIDTH),) * 3,
        )
        self.joint_blocks = JointBlocks(
            stages=JOINT_STAGES,
            video_channels=[(*VIDEO_CHANNELS, VIDEO_CHANNELS[-1])[stage] for stage in JOINT_STAGES],
            audio_channels=[(*AUDIO_CHANNELS, AUDIO_CHANNELS[-1])[stage] for stage in JOINT_STAGES],
            width=96,
            head_dim=32,
            image_dim=IMAGE_WIDTH,
            text_dim=TEXT_WIDTH,
            audio_dims=(TEXT_WIDTH, TEXT_WIDTH),
        )
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=TEXT_WIDTH,
                intermediate_size=4 * TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=TEXT_LENGTH,
                projection_dim=TEXT_WIDTH,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        self.image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                image_size=PICTURE_SIZE,
                patch_size=16,
                hidden_size=IMAGE_WIDTH,
                intermediate_size=2 * IMAGE_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                projection_dim=IMAGE_WIDTH,
            )
        )


def train_tokenizer(captions: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Byte-level BPE in CLIP's manner, learned from `captions`, saved in `folder` and loaded from there."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=sorted(alphabet),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    # Every byte must also exist as a word's last one, or unseen words would lose it.
    known = ["<|startoftext|>", "<|endoftext|>", *sorted(alphabet), *(byte + "</w>" for byte in sorted(alphabet))]
    learned = [token for token in model["vocab"] if token not in set(known)]
    return save_tokenizer({token: index for index, token in enumerate(known + learned)}, model["merges"], folder)


def save_tokenizer(vocabulary: Mapping[str, int], merges: Iterable[Sequence[str]], folder: Path) -> CLIPTokenizer:
    """A tokenizer of these tokens and merges, saved in `folder` and loaded from there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    CLIPTokenizer.from_pretrained(folder, model_max_length=TEXT_LENGTH).save_pretrained(folder)
    return load_tokenizer(folder)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer that `train_tokenizer` saved."""
    return CLIPTokenizer.from_pretrained(folder)


def write_text(path: Path, text: str) -> None:
    """Beside first, then renamed."""
    beside = path.with_suffix(".partial")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def picture_for_encoder(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [B, 3, H, W] -> what the image encoder sees, uint8 [B, 3, 64, 64], antialiased."""
    resized = torch.nn.functional.interpolate(pixels.float(), (PICTURE_SIZE,) * 2, mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
