"""Conditions to latents."""

from __future__ import annotations

from typing import Any, Literal

from einops import rearrange
from torch import Tensor

from ...jointdit.diffusion.guidance import JointCFG
from ...jointdit.diffusion.schedules import AudioGrid
from ...jointdit.diffusion.sync_guidance import SyncGuidance
from ...jointdit.errors import InputError
from ...jointdit.latents import JointLatents
from ...jointdit.pipeline import SamplingSettings
from ...jointdit.pipeline.preview import FastDecoder
from ..sockets import CLIP_KEY, OWN_GRID, OWN_SYNC, PreparedClips
from .memory import DENOISING, ManagedModel, give_to_autograd
from .progress import contact_sheet

LOWEST_START = 0.1  # of the model's own first sigma: what starts lower was made for another model


def sample(
    model: ManagedModel,
    conditions: PreparedClips,
    seed: int,
    steps: int,
    sampler: str,
    audio_substeps: int,
    audio_grid: AudioGrid | Literal["model's own"],
    video_temperature: float,
    guidance: JointCFG | None = None,
    sigmas: Tensor | None = None,
    fresh_noise: float = -1.0,
    sync: float = 0.0,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The LATENT of the video and that of the sound."""
    pipe, prepared = model.pipe, conditions.conditions
    strength = sync
    if sync == OWN_SYNC:
        strength = SyncGuidance().strength if model.identity and prepared.held != "audio" else 0.0
    settings = SamplingSettings(
        steps=None if sigmas is not None else steps or None,
        sigmas=sigmas,
        sampler=sampler,
        guidance=guidance,
        audio_grid=None if audio_grid == OWN_GRID else audio_grid,
        audio_substeps=audio_substeps or None,
        video_temperature=None if video_temperature < 0 else video_temperature,
        fresh_noise=None if fresh_noise < 0 else fresh_noise,
        sync=SyncGuidance(strength) if strength else None,
    )
    if sigmas is not None and prepared.held != "video":
        _check_start(float(sigmas[0]), float(pipe.grid(SamplingSettings()).video_sigmas[0]))
    total, memory = pipe.grid(settings, prepared.held).steps, prepared.batch * model.pass_memory(prepared.shape)
    progress = model.start((*DENOISING, "audio_vae") if strength else DENOISING, total, memory)
    if strength:
        give_to_autograd(pipe.audio_vae)  # for its loudness readout
    picture = prepared.conditional.image_latents[0] * pipe.video_vae.config.scaling_factor
    decode = FastDecoder(picture, conditions.pictures[0])

    def report(done: int, total: int, estimate: JointLatents) -> None:
        progress(done, total, contact_sheet(decode(estimate.video[0])))

    with model.interruptible(DENOISING):
        latents = pipe.sample(
            prepared,
            settings,
            generator=prepared.generator(seed),
            max_batch=model.rows_that_fit(prepared.shape),
            callback=report,
        )
    if not (latents.video.isfinite().all() and latents.audio.isfinite().all()):
        raise InputError(
            "the clip left the range of its numbers; take precision bfloat16 or float32 in the load node, or lower "
            "scales in JointDiT JointCFG"
        )
    unscaled = latents.video / pipe.video_vae.config.scaling_factor
    video = {"samples": rearrange(unscaled, "b f c h w -> (b f) c h w").cpu(), CLIP_KEY: prepared.shape}
    audio = {"samples": latents.audio.contiguous().cpu(), "type": "audio", CLIP_KEY: prepared.shape}
    return video, audio


def _check_start(asked: float, own: float) -> None:
    """Raises InputError for first noise levels of another model, such as the 14.6 of Stable Diffusion 1.5."""
    if asked < LOWEST_START * own:
        raise InputError(
            f"sigmas start at {asked:g}, but this model starts at {own:g}; in the scheduler node set sigma_max "
            f"{own:g} and sigma_min 0.002, or disconnect sigmas"
        )
