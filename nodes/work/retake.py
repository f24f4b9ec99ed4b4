"""A time span of a clip made anew."""

from __future__ import annotations

import torch
from comfy_api.v0_0_2 import Input, InputImpl, Types

from ...jointdit.diffusion.guidance import JointCFG
from ...jointdit.errors import InputError
from ...jointdit.latents import JointLatents
from ...jointdit.media import Clip, exact_fps, fit_audio
from ...jointdit.options import MAX_SECONDS
from ...jointdit.pipeline import SamplingSettings
from ...jointdit.pipeline.preview import FastDecoder
from ...jointdit.pipeline.retake import PartToRetake, Retaken
from ...jointdit.pipeline.windowed import ONE_WINDOW
from ..sockets import pixels_of, sound_of
from .memory import DENOISING, ManagedModel
from .preview import Preview


def retake(
    model: ManagedModel,
    video: Input.Video,
    start: float,
    stop: float,
    what: Retaken,
    prompt: str,
    negative_prompt: str,
    seed: int,
    steps: int,
    sampler: str,
    guidance: JointCFG | None = None,
) -> InputImpl.VideoFromComponents:
    """The VIDEO with its new part; all of it is in memory."""
    if (seconds := video.get_duration()) > MAX_SECONDS:
        raise InputError(f"the clip lasts {seconds:.0f} s, but may last {MAX_SECONDS} at most; cut it with Trim Video")
    parts = video.get_components()
    if parts.audio is None:
        raise InputError("the clip to retake has no sound; give it one first, with JointDiT Condition and Sample")
    (samples, rate), fps = sound_of(parts.audio), exact_fps(parts.frame_rate)
    fitted = fit_audio(samples, round(len(parts.images) / fps * rate), fade=0)
    clip = Clip(pixels_of(parts.images), fps, fitted, rate)
    settings = SamplingSettings(steps=steps or None, sampler=sampler, guidance=guidance)
    pipe = model.pipe
    progress = model.start([], pipe.grid(settings).steps)
    memory = ONE_WINDOW * model.pass_memory(pipe.shape())
    with model.loading_as_used(memory), model.interruptible(DENOISING, progress):
        generator, texts = torch.Generator().manual_seed(seed), (prompt.strip(), negative_prompt.strip())
        part = PartToRetake.of(pipe, clip, start, stop, *texts, what, generator)
        shape = part.conditions.shape
        preview = Preview(model, FastDecoder.of(pipe, part.conditions, part.pictures[0], "cover"), shape.fps)

        def report(done: int, total: int, estimate: JointLatents) -> None:
            progress(done, total, preview(estimate))

        def run(rows: int) -> JointLatents:
            return part.sample(settings, part.conditions.generator(seed), rows, report)

        made = part.in_clip(model.as_memory_allows(shape, ONE_WINDOW, run))
    sound = {"waveform": torch.from_numpy(made.audio)[None], "sample_rate": made.sample_rate}
    images = torch.from_numpy(made.frames).float() / 255
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, audio=sound, frame_rate=parts.frame_rate))
