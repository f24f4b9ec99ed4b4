"""The architecture of the bundled model: the real classes at small size."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AudioLDM2UNet2DConditionModel,
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ...diffusion.schedules import NoiseClock
from ...encoders.mel import BINS
from ...models.joint_block import JointBlocks
from .recipe import Architecture, Sampling


def video_vae() -> AutoencoderKLTemporalDecoder:
    """Sees pixels folded 8 x 8 into channels, in one level."""
    return AutoencoderKLTemporalDecoder(
        in_channels=3 * 8 * 8,
        out_channels=3 * 8 * 8,
        down_block_types=("DownEncoderBlock2D",),
        block_out_channels=(128,),
        layers_per_block=1,
        latent_channels=16,
        force_upcast=False,
    )


def audio_vae() -> AutoencoderKL:
    """Sees log-mels folded 4 x 4 into channels, in one level."""
    return AutoencoderKL(
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


def text_encoder(sizes: Architecture, vocabulary: int) -> CLIPTextModel:
    """For `vocabulary` tokens."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=sizes.text_width,
            intermediate_size=4 * sizes.text_width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=sizes.text_length,
            projection_dim=sizes.text_width,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


class TinyModel(nn.Module):
    """What is trained together on top of the finished autoencoders. Every part is a component of the saved model.

    vocabulary: tokens of the text encoder.    video_channels, audio_channels: of the latents, the video's packed.
    frames: of a clip.
    """

    def __init__(
        self, sizes: Architecture, vocabulary: int, video_channels: int, audio_channels: int, frames: int
    ) -> None:
        super().__init__()
        self.video_unet = UNetSpatioTemporalConditionModel(
            in_channels=2 * video_channels,
            out_channels=video_channels,
            down_block_types=("DownBlockSpatioTemporal",) * 2 + ("CrossAttnDownBlockSpatioTemporal",),
            up_block_types=("CrossAttnUpBlockSpatioTemporal",) + ("UpBlockSpatioTemporal",) * 2,
            block_out_channels=sizes.video_channels,
            addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=96,
            layers_per_block=1,
            cross_attention_dim=sizes.image_width,
            num_attention_heads=sizes.video_heads,
            num_frames=frames,
            sample_size=8,
        )
        audio_levels: dict[str, Any] = {  # three of each, though the class is annotated with one
            "down_block_types": ("DownBlock2D",) * 2 + ("CrossAttnDownBlock2D",),
            "up_block_types": ("CrossAttnUpBlock2D",) + ("UpBlock2D",) * 2,
            "block_out_channels": sizes.audio_channels,
            "cross_attention_dim": ((None, sizes.text_width, sizes.text_width),) * 3,
        }
        self.audio_unet = AudioLDM2UNet2DConditionModel(
            in_channels=audio_channels,
            out_channels=audio_channels,
            layers_per_block=1,
            attention_head_dim=4,
            norm_num_groups=16,
            **audio_levels,
        )
        self.joint_blocks = JointBlocks(
            stages=sizes.joint_stages,
            video_channels=[(*sizes.video_channels, sizes.video_channels[-1])[stage] for stage in sizes.joint_stages],
            audio_channels=[(*sizes.audio_channels, sizes.audio_channels[-1])[stage] for stage in sizes.joint_stages],
            width=sizes.joint_width,
            head_dim=32,
            image_dim=sizes.image_width,
            text_dim=sizes.text_width,
            audio_dims=(sizes.text_width, sizes.text_width),
            video_pools=list(sizes.joint_pools),
        )
        self.text_encoder = text_encoder(sizes, vocabulary)
        self.image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                image_size=sizes.picture_size,
                patch_size=16,
                hidden_size=sizes.image_width,
                intermediate_size=2 * sizes.image_width,
                num_hidden_layers=2,
                num_attention_heads=4,
                projection_dim=sizes.image_width,
            )
        )


def video_scheduler(sampling: Sampling) -> EulerDiscreteScheduler:
    """Stable Video Diffusion's noise levels, up to the highest that is sampled from: few latents are lost in less
    noise."""
    return EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=sampling.sigmas[0],
    )


def audio_scheduler() -> DDIMScheduler:
    """AudioLDM2's noise levels."""
    return DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def noise_clock(sampling: Sampling) -> NoiseClock:
    """The noise levels of both modalities."""
    return NoiseClock(video_scheduler(sampling), audio_scheduler())


def image_processor(picture_size: int) -> CLIPImageProcessor:
    """Of the image encoder."""
    return CLIPImageProcessor(
        size={"shortest_edge": picture_size}, crop_size={"height": picture_size, "width": picture_size}
    )


def picture_for_encoder(pixels: Tensor, picture_size: int) -> Tensor:
    """uint8 [B, 3, H, W] -> what the image encoder sees, uint8 [B, 3, s, s] with s = picture_size, antialiased."""
    resized = torch.nn.functional.interpolate(pixels.float(), (picture_size,) * 2, mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
