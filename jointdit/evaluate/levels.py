"""What the clean estimate leaves of a still picture's error, by noise level: seconds instead of a sampled clip each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..diffusion.denoiser import JointDenoiser, Pass, add_noise
from ..encoders.autoencoders import to_model_range
from ..latents import JointLatents
from ..pipeline import JointDiTPipeline, SamplingSettings
from ..synthetic import Scene

MOST = 0.1  # share of the latents that change most


@dataclass(frozen=True)
class LevelError:
    """At noise level `sigma` of the video: squared error of the clean estimate, as a share of that of the picture
    standing still; over all latents, and over the tenth of them in which the scenes leave the picture most."""

    sigma: float
    error: float
    where_most: float


@torch.no_grad()
def errors_by_level(
    pipe: JointDiTPipeline, scenes: Sequence[Scene], least: float = 1.0, batch: int = 8, seed: int = 0
) -> list[LevelError]:
    """Of scenes of the model's own shape, with their captions, at the steps of its default path down to `least`."""
    grid = pipe.grid(SamplingSettings())
    steps = [step for step, sigma in enumerate(grid.video_sigmas[:-1].tolist()) if sigma >= least]
    denoiser = JointDenoiser(pipe.model, pipe.clock)
    left: dict[int, list[Tensor]] = {step: [] for step in steps}
    still: list[Tensor] = []
    for first in range(0, len(scenes), batch):
        part = scenes[first : first + batch]
        generator = torch.Generator().manual_seed(seed + first)
        cond = pipe.condition(
            [scene.picture for scene in part],
            [scene.caption for scene in part],
            [None] * len(part),
            pipe.shape(),
            generator,
        ).conditional
        clean = JointLatents(*(torch.cat(each) for each in zip(*(_encode(pipe, scene) for scene in part), strict=True)))
        noise = JointLatents(
            *(torch.randn(x.shape, generator=generator).to(x.device) for x in (clean.video, clean.audio))
        )
        picture = cond.image_latents.float() * pipe.video_vae.config.scaling_factor
        still.append((picture[:, None] - clean.video).square().cpu())
        for step in steps:
            levels = grid.levels(step)
            [estimate], _ = denoiser.denoise(add_noise(clean, noise, levels), levels, [Pass(cond)])
            left[step].append((estimate.video - clean.video).square().cpu())
    before = torch.cat(still)
    most = before >= before.flatten().kthvalue(int((1 - MOST) * before.numel())).values
    found = []
    for step in steps:
        after = torch.cat(left[step])
        shares = [(after[where].sum() / before[where].sum()).item() for where in (torch.ones_like(most), most)]
        found.append(LevelError(float(grid.video_sigmas[step]), *shares))
    return found


def _encode(pipe: JointDiTPipeline, scene: Scene) -> tuple[Tensor, Tensor]:
    """Scaled latents of both modalities, a batch of one."""
    pixels = to_model_range(rearrange(torch.from_numpy(scene.frames), "f h w c -> 1 f c h w"))
    video = pipe.video_codec.encode_video(pixels.to(pipe.device))
    return video, pipe.audio_codec.encode_audio(torch.from_numpy(scene.audio)[None].to(pipe.device))
