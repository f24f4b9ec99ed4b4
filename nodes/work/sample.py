"""Conditions to latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor

from ...jointdit.diffusion.guidance import JointCFG
from ...jointdit.diffusion.reuse import Reuse
from ...jointdit.diffusion.schedules import AudioGrid
from ...jointdit.diffusion.sync_guidance import SyncGuidance
from ...jointdit.errors import InputError
from ...jointdit.latents import JointLatents
from ...jointdit.pipeline import Conditions, SamplingSettings
from ...jointdit.pipeline.preview import FastDecoder
from ...jointdit.pipeline.windowed import ONE_WINDOW, GroupSampler, join_groups
from ..sockets import CLIP_KEY, OWN_GRID, OWN_SYNC, PLAN_KEY, PreparedClips, PreparedLong
from .memory import DENOISING, ManagedModel, give_to_autograd
from .preview import Preview

LOWEST_START = 0.1  # of the model's own first sigma: what starts lower was made for another model
MOST_PASSES = 3  # of one clip in an evaluation
Report = Callable[[int, int, JointLatents | None], None]


def sample(
    model: ManagedModel,
    conditions: PreparedClips | PreparedLong,
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
    clips: int = 1,
    reuse: int = 1,
    reuse_layers: int = 0,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The LATENT of the video and that of the sound."""
    pipe = model.pipe
    one = conditions.clips[0][0] if isinstance(conditions, PreparedLong) else conditions.conditions
    strength = sync
    if sync == OWN_SYNC:
        strength = SyncGuidance().strength if model.identity and one.held != "audio" else 0.0
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
        reuse=Reuse(reuse, layers=reuse_layers or None) if reuse > 1 else None,
    )
    if sigmas is not None and one.held != "video":
        _check_start(float(sigmas[0]), float(pipe.grid(SamplingSettings()).video_sigmas[0]))
    rows = ONE_WINDOW if isinstance(conditions, PreparedLong) else MOST_PASSES * one.batch * clips
    names = (*DENOISING, "audio_vae") if strength else DENOISING
    memory = rows / MOST_PASSES * model.pass_memory(one.shape)
    picture = one.conditional.image_latents[0] * pipe.video_vae.config.scaling_factor
    preview = Preview(model, FastDecoder(picture, conditions.pictures[0]), one.shape.fps)
    progress = model.start(names, pipe.grid(settings, one.held).steps, memory)
    if strength:
        give_to_autograd(pipe.audio_vae)  # for its loudness readout

    def report(done: int, total: int, estimate: JointLatents | None) -> None:
        progress(done, total, preview(estimate))

    seeds = [(seed + number) % 2**64 for number in range(clips)]
    with model.interruptible(DENOISING, progress):
        if isinstance(conditions, PreparedLong):
            latents = _sample_long(model, conditions, settings, seeds, report)
            return _packed(model, latents, {CLIP_KEY: conditions.plan.clip, PLAN_KEY: conditions.plan})
        return _packed(model, _sample_short(model, one, settings, seeds, report), {CLIP_KEY: one.shape})


def _sample_short(
    model: ManagedModel, one: Conditions, settings: SamplingSettings, seeds: Sequence[int], report: Report
) -> JointLatents:
    """Clips of one window: those of all pictures with the first seed, then those with the next."""
    every = one.repeated(len(seeds))

    def run(rows: int) -> JointLatents:
        generators = [one.generator(seed) for seed in seeds]
        each = [generator for generator in generators for _ in range(one.batch)]
        generator = generators[0] if len(seeds) == 1 else each
        return model.pipe.sample(every, settings, generator=generator, max_batch=rows, callback=report)

    return model.as_memory_allows(one.shape, MOST_PASSES * every.batch, run)


def _sample_long(
    model: ManagedModel, prepared: PreparedLong, settings: SamplingSettings, seeds: Sequence[int], report: Report
) -> JointLatents:
    """Clips of several windows, in the same order, one after the other."""
    plan, windows, runs = prepared.plan, prepared.plan.windows, [*product(seeds, prepared.clips)]
    assert windows is not None

    def make(number: int, seed: int, groups: Sequence[Conditions]) -> JointLatents:
        def among_all(done: int, total: int, estimate: JointLatents | None) -> None:
            report(number * total + done, len(runs) * total, estimate)

        def run(rows: int) -> JointLatents:
            generator = groups[0].generator(seed)
            sampler = GroupSampler(model.pipe, windows, settings, groups[0].held, generator, among_all)
            found = [sampler.sample(*each, rows) for each in zip(plan.groups, groups, strict=True)]
            return join_groups(plan.groups, found)

        return model.as_memory_allows(groups[0].shape, ONE_WINDOW, run)

    made = [make(number, *each) for number, each in enumerate(runs)]
    return JointLatents(torch.cat([each.video for each in made]), torch.cat([each.audio for each in made]))


def _packed(model: ManagedModel, latents: JointLatents, about: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Latents in the form of stock nodes. Raises InputError where they are no numbers."""
    if not (latents.video.isfinite().all() and latents.audio.isfinite().all()):
        raise InputError(
            "the clip left the range of its numbers; take precision bfloat16 or float32 in the load node, or lower "
            "scales in JointDiT JointCFG"
        )
    unscaled = latents.video / model.pipe.video_vae.config.scaling_factor
    video = {"samples": rearrange(unscaled, "b f c h w -> (b f) c h w").cpu(), **about}
    return video, {"samples": latents.audio.contiguous().cpu(), "type": "audio", **about}


def _check_start(asked: float, own: float) -> None:
    """Raises InputError for first noise levels of another model, such as the 14.6 of Stable Diffusion 1.5."""
    if asked < LOWEST_START * own:
        raise InputError(
            f"sigmas start at {asked:g}, but this model starts at {own:g}; in the scheduler node set sigma_max "
            f"{own:g} and sigma_min 0.002, or disconnect sigmas"
        )
