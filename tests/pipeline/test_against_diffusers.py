"""End to end against the pretrained models' own pipelines: same weights, same noise, one joint run."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from diffusers import AudioLDM2Pipeline, StableVideoDiffusionPipeline
from gaussian_model import audio_scheduler, clock, video_scheduler
from tiny_models import LATENT, audio_vae, conditioning, image_encoder, joint_model, video_vae, vocoder
from transformers import CLIPImageProcessor, GPT2Config, GPT2LMHeadModel, T5Config, T5EncoderModel

from jointdit.diffusion.denoiser import JointDenoiser
from jointdit.diffusion.guidance import JointCFG
from jointdit.diffusion.samplers import euler, initial_noise
from jointdit.encoders.conditioning import without_image
from jointdit.latents import JointLatents
from jointdit.models.model import Conditioning, JointDiTModel

STEPS = 4
FRAMES = 3
FPS = 7


def noise() -> JointLatents:
    generator = torch.Generator().manual_seed(11)
    return JointLatents(
        torch.randn(1, FRAMES, LATENT, 8, 8, generator=generator), torch.randn(1, LATENT, 12, 16, generator=generator)
    )


def picture() -> torch.Tensor:
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(12))


@cache
def model() -> JointDiTModel:
    """Both UNets, and Joint Blocks at their identity start."""
    return joint_model()


@cache
def their_video(start: float, end: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents of StableVideoDiffusionPipeline; its CLIP embedding and image latents."""
    pipe = StableVideoDiffusionPipeline(
        video_vae(), image_encoder(), model().video_unet, video_scheduler(), CLIPImageProcessor(do_resize=False)
    )
    pipe.set_progress_bar_config(disable=True)
    frames = pipe(
        picture(),
        height=32,
        width=32,
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        min_guidance_scale=start,
        max_guidance_scale=end,
        fps=FPS,
        noise_aug_strength=0.0,
        latents=noise().video,
        output_type="latent",
    ).frames
    embeds = pipe._encode_image(picture(), "cpu", 1, False)
    return frames, embeds, pipe._encode_vae_image(pipe.video_processor.preprocess(picture(), 32, 32), "cpu", 1, False)


@cache
def their_audio(steps: int, scale: float) -> torch.Tensor:
    """Latents of AudioLDM2Pipeline with deterministic DDIM and given embeddings."""
    cond, negative = texts()
    pipe = AudioLDM2Pipeline(
        vae=audio_vae(),
        text_encoder=None,
        text_encoder_2=T5EncoderModel(T5Config(vocab_size=8, d_model=20, d_kv=4, d_ff=8, num_layers=1, num_heads=1)),
        projection_model=None,
        language_model=GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=8, n_embd=12, n_layer=1, n_head=1)),
        tokenizer=None,
        tokenizer_2=None,
        feature_extractor=None,
        unet=model().audio_unet,
        scheduler=audio_scheduler(),
        vocoder=vocoder(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        audio_length_in_s=0.48,
        num_inference_steps=steps,
        guidance_scale=scale,
        eta=0.0,
        latents=noise().audio,
        prompt_embeds=cond.audio_embeds_1,
        attention_mask=cond.audio_mask_1,
        generated_prompt_embeds=cond.audio_embeds,
        negative_prompt_embeds=negative.audio_embeds_1,
        negative_attention_mask=negative.audio_mask_1,
        negative_generated_prompt_embeds=negative.audio_embeds,
        output_type="latent",
    ).audios


def texts() -> list[Conditioning]:
    """What is said, and the negative."""
    both = conditioning(2)
    return [both.select(torch.tensor([row])) for row in range(2)]


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert theirs.std() > 0.1
    return ((ours - theirs).norm() / theirs.norm()).item()


CASES = {
    "without guidance": (JointCFG(mode="none"), 1, (1.0, 1.0), 1.0),
    "cfg": (JointCFG(mode="cfg", video_scale_start=1.0, video_scale=3.0, audio_scale=3.5), 1, (1.0, 3.0), 3.5),
    "cfg, even frames": (JointCFG(mode="cfg", video_scale=2.0, audio_scale=1.0), 1, (2.0, 2.0), 1.0),
    "joint-cfg": (
        JointCFG(mode="joint-cfg", video_scale_start=1.0, video_joint_scale=3.0, audio_joint_scale=3.5),
        1,
        (1.0, 3.0),
        3.5,
    ),
    "joint-cfg-star": (
        JointCFG(mode="joint-cfg-star", video_scale_start=1.0, video_scale=3.0, audio_scale=3.5, joint_scale=1.7),
        1,
        (1.0, 3.0),
        3.5,
    ),
    "audio sub-steps": (JointCFG(mode="cfg"), 3, (1.0, 3.0), 3.5),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_joint_run_with_untrained_joint_blocks_is_both_pipelines_own(case):
    guidance, substeps, (start, end), audio_scale = CASES[case]
    video, embeds, image_latents = their_video(start, end)
    audio = their_audio(STEPS * substeps, audio_scale)
    ids = torch.tensor([[FPS - 1, 127, 0.0]])
    cond, negative = (
        replace(text, video_embeds=embeds, context_image=embeds, image_latents=image_latents, added_time_ids=ids)
        for text in texts()
    )
    joint = JointDenoiser(model(), clock())
    grid = joint.clock.grid(STEPS, audio_substeps=substeps)
    denoise = guidance.denoiser(joint, cond, without_image(negative))
    ours = euler(denoise, initial_noise(noise(), grid), grid)
    assert relative(ours.video, video) < 1e-4
    assert relative(ours.audio, audio) < 1e-4
