"""Small instances of the real classes, with random weights, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AudioLDM2ProjectionModel,
    AudioLDM2UNet2DConditionModel,
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from tokenizers import pre_tokenizers
from transformers import (
    ClapConfig,
    ClapModel,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    GPT2Config,
    GPT2Model,
    RobertaTokenizer,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from jointdit import JointDiTPipeline
from jointdit.checkpoints.adapter_files import save_adapters
from jointdit.checkpoints.components import ADAPTER_FILES
from jointdit.latents import JointLatents
from jointdit.models.joint_block import JointBlocks
from jointdit.models.joint_start import start_joint_blocks
from jointdit.models.model import Conditioning, JointDiTModel

VIDEO_CHANNELS = (32, 64, 64)
AUDIO_CHANNELS = (16, 32, 32)
LATENT = 4
ADAPTED = ("to_q", "to_out.0")  # ends of the names of layers that get adapters
SHAPE = {"frames": 4, "fps": 8, "height": 40, "width": 48}  # of a clip of `write_experts`


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


def adapter_matrices(
    unet: torch.nn.Module, rank: int = 3, scale: float = 0.1
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random low-rank adapters of some of a UNet's attentions: A [r, in] and B [out, r] by layer."""
    found = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, torch.nn.Linear) and name.endswith(ADAPTED):
            out, into = layer.weight.shape
            found[name] = (scale * torch.randn(rank, into), scale * torch.randn(out, rank))
    return found


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
        audio_dims=(12, 20),
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
        video_origin=torch.zeros(batch, LATENT, height, width),
        audio_embeds=noise(batch, 3, 12),
        audio_embeds_1=noise(batch, 5, 20),
        audio_mask_1=mask,
        context_image=noise(batch, 1, 24),
        context_text=noise(batch, 4, 12),
        fps=torch.full((batch,), 7.0),
    )


def write_experts(folder: Path) -> tuple[Path, Path]:
    """Stable Video Diffusion and AudioLDM2 in their published diffusers layouts, real classes at small size."""
    torch.manual_seed(4)
    video, audio = folder / "svd", folder / "audioldm2"
    video_vae().save_pretrained(video / "vae")
    video_unet().save_pretrained(video / "unet")
    EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        steps_offset=1,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        interpolation_type="linear",
    ).save_pretrained(video / "scheduler")
    image_encoder().save_pretrained(video / "image_encoder")
    CLIPImageProcessor().save_pretrained(video / "feature_extractor")

    audio_vae().save_pretrained(audio / "vae")
    audio_unet().save_pretrained(audio / "unet")
    vocoder().save_pretrained(audio / "vocoder")
    audio_scheduler().save_pretrained(audio / "scheduler")
    bytes_vocabulary = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])}
    for token in sorted(pre_tokenizers.ByteLevel.alphabet()):
        bytes_vocabulary[token] = len(bytes_vocabulary)
    RobertaTokenizer(vocab=bytes_vocabulary, merges=[], model_max_length=77).save_pretrained(audio / "tokenizer")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)] + [(chr(c), -2.0) for c in range(97, 123)]
    T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=16).save_pretrained(audio / "tokenizer_2")
    text = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    clap = ClapConfig(
        text_config=text | {"num_attention_heads": 2, "projection_dim": 10, "max_position_embeddings": 100},
        audio_config={
            "num_mel_bins": 8, "spec_size": 32, "window_size": 4, "patch_stride": [4, 4], "depths": [1, 1],
            "num_attention_heads": [2, 2], "hidden_size": 32, "patch_embeds_hidden_size": 16, "projection_dim": 10,
        },
        projection_dim=10,
    )  # fmt: skip
    ClapModel(clap).save_pretrained(audio / "text_encoder")
    t5 = T5Config(vocab_size=64, d_model=20, d_kv=10, d_ff=20, num_layers=1, num_heads=2, is_encoder_decoder=False)
    T5EncoderModel(t5).save_pretrained(audio / "text_encoder_2")
    AudioLDM2ProjectionModel(10, 20, 12).save_pretrained(audio / "projection_model")
    gpt2 = GPT2Config(vocab_size=20, n_positions=64, n_embd=12, n_layer=1, n_head=2, max_new_tokens=3)
    GPT2Model(gpt2).save_pretrained(audio / "language_model")
    return video, audio


def video_vae() -> AutoencoderKLTemporalDecoder:
    torch.manual_seed(5)
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 3,
        block_out_channels=(32, 32, 32),
        layers_per_block=1,
        latent_channels=LATENT,
        scaling_factor=0.5,
    ).eval()


def audio_vae() -> AutoencoderKL:
    torch.manual_seed(6)
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        latent_channels=LATENT,
        norm_num_groups=4,
        scaling_factor=0.4,
    ).eval()


def vocoder() -> SpeechT5HifiGan:
    torch.manual_seed(7)
    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=64,
            upsample_initial_channel=8,
            upsample_rates=[5, 4, 8],
            upsample_kernel_sizes=[11, 8, 16],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
            normalize_before=False,
        )
    ).eval()


def image_encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(8)
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            image_size=224,  # what diffusers' pipeline feeds, whatever the encoder
            patch_size=112,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            projection_dim=24,
        )
    ).eval()


def audio_scheduler() -> DDIMScheduler:
    """AudioLDM2's noise levels with deterministic DDIM."""
    return DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def inputs(batch: int = 2, frames: int = 3, size: tuple[int, int] = (8, 8), audio: tuple[int, int] = (12, 16)):
    """Raw inputs of `joint_model`: video [B, F, 2C, h, w], audio [B, C, l, m], c_noise [B] and timestep [B]."""
    generator = torch.Generator().manual_seed(7)
    video = torch.randn(batch, frames, 2 * LATENT, *size, generator=generator)
    sound = torch.randn(batch, LATENT, *audio, generator=generator)
    return video, sound, torch.linspace(-1.0, 1.3, batch), torch.linspace(3, 900, batch).long()


def seeded(seed: int = 0) -> torch.Generator:
    """A generator with this seed."""
    return torch.Generator().manual_seed(seed)


def assert_close(ours: JointLatents, theirs: JointLatents) -> None:
    """Equal but for the rounding of float32."""
    torch.testing.assert_close(ours.video, theirs.video, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.audio, theirs.audio, atol=1e-4, rtol=1e-4)


def write_trained(pipe: JointDiTPipeline, joint: Path, adapters: Path) -> None:
    """What stage B with adapters would write: Joint Blocks whose gates are open, which the model keeps, and random
    adapters of both experts."""
    torch.manual_seed(5)
    save_adapters(adapters, {name: adapter_matrices(getattr(pipe, name), scale=0.2) for name in ADAPTER_FILES})
    start_joint_blocks(pipe.joint_blocks, gate=0.5)
    pipe.save_joint_blocks(joint)
