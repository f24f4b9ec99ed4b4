"""Small instances of the real classes, with random weights, for tests."""

from __future__ import annotations

import torch
from diffusers import AudioLDM2UNet2DConditionModel, UNetSpatioTemporalConditionModel

from jointdit.joint_block import JointBlocks
from jointdit.model import Conditioning, JointDiTModel

VIDEO_CHANNELS = (32, 64, 64)
AUDIO_CHANNELS = (16, 32, 32)
LATENT = 4


def video_unet(seed: int = 0) -> UNetSpatioTemporalConditionModel:
    torch.manual_seed(seed)
    return UNetSpatioTemporalConditionModel(
        in_channels=2 * LATENT,
        out_channels=LATENT,
        down_block_types=("CrossAttnDownBlockSpatioTemporal",) * 2 + ("DownBlockSpatioTemporal",),
        up_block_types=("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 2,
        block_out_channels=VIDEO_CHANNELS,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        layers_per_block=2,
        cross_attention_dim=24,
        num_attention_heads=(2, 4, 4),
        num_frames=3,
    ).eval()


def audio_unet(seed: int = 1) -> AudioLDM2UNet2DConditionModel:
    torch.manual_seed(seed)
    return AudioLDM2UNet2DConditionModel(
        in_channels=LATENT,
        out_channels=LATENT,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=AUDIO_CHANNELS,
        layers_per_block=2,
        attention_head_dim=4,
        norm_num_groups=8,
        cross_attention_dim=((None, 12, 20),) * 3,
    ).eval()


def joint_blocks(seed: int = 2, stages: tuple[int, ...] = (0, 1, 2, 3), open_gates: bool = False) -> JointBlocks:
    """Joint Blocks at their identity start, or with every weight random when `open_gates`."""
    torch.manual_seed(seed)
    blocks = JointBlocks(
        stages=stages,
        video_channels=[(VIDEO_CHANNELS[0], *VIDEO_CHANNELS[1:], VIDEO_CHANNELS[-1])[stage] for stage in stages],
        audio_channels=[(AUDIO_CHANNELS[0], *AUDIO_CHANNELS[1:], AUDIO_CHANNELS[-1])[stage] for stage in stages],
        width=32,
        head_dim=16,
        image_dim=24,
        text_dim=12,
    ).eval()
    if open_gates:
        for block in blocks.blocks:
            for branch in (block.video, block.audio):
                torch.nn.init.normal_(branch.modulation.weight, std=0.2)
                torch.nn.init.normal_(branch.modulation.bias, std=0.5)
    return blocks


def joint_model(open_gates: bool = False, stages: tuple[int, ...] = (0, 1, 2, 3)) -> JointDiTModel:
    return JointDiTModel(video_unet(), audio_unet(), joint_blocks(stages=stages, open_gates=open_gates)).eval()


def conditioning(batch: int = 2, seed: int = 3, height: int = 8, width: int = 8) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    mask = torch.ones(batch, 5)
    mask[-1, 3:] = 0
    return Conditioning(
        video_embeds=noise(batch, 1, 24),
        added_time_ids=torch.tensor([[6.0, 127.0, 0.02]]).expand(batch, -1),
        image_latents=noise(batch, LATENT, height, width),
        audio_embeds=noise(batch, 3, 12),
        audio_embeds_1=noise(batch, 5, 20),
        audio_mask_1=mask,
        context_image=noise(batch, 1, 24),
        context_text=noise(batch, 4, 12),
        fps=torch.full((batch,), 7.0),
    )
