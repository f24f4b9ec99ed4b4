"""What the clean estimate leaves of a still picture's error, by noise level, and whether objects are recognised in it:
where on its way a model loses them, without sampling a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..diffusion.denoiser import JointDenoiser, Pass, add_noise
from ..diffusion.schedules import Levels
from ..encoders.autoencoders import from_model_range, to_model_range
from ..latents import JointLatents
from ..models.model import Conditioning
from ..pipeline import JointDiTPipeline, SamplingSettings
from ..synthetic import Scene
from .objects import ObjectJudge

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
    left: dict[int, list[Tensor]] = {step: [] for step in steps}
    still: list[Tensor] = []
    for first in range(0, len(scenes), batch):
        part = _Part.of(pipe, scenes[first : first + batch], seed + first)
        picture = part.conditioning.image_latents.float() * pipe.video_vae.config.scaling_factor
        still.append((picture[:, None] - part.clean.video).square().cpu())
        for step in steps:
            left[step].append((part.estimate(pipe, grid.levels(step)) - part.clean.video).square().cpu())
    before = torch.cat(still)
    most = before >= before.flatten().kthvalue(int((1 - MOST) * before.numel())).values
    found = []
    for step in steps:
        after = torch.cat(left[step])
        shares = [(after[where].sum() / before[where].sum()).item() for where in (torch.ones_like(most), most)]
        found.append(LevelError(float(grid.video_sigmas[step]), *shares))
    return found


@torch.no_grad()
def objects_by_level(
    pipe: JointDiTPipeline,
    scenes: Sequence[Scene],
    judged: ObjectJudge,
    sigmas: Sequence[float],
    batch: int = 6,
    seed: int = 0,
) -> dict[float, dict[str, float]]:
    """By noise level of the video, the share of the scenes of each effect whose object the judge sees in the clean
    estimate of the scene itself, decoded; and of "all". The sound is at its own first level."""
    sound = pipe.grid(SamplingSettings()).levels(0).audio_timestep.double()
    seen: dict[float, list[bool]] = {sigma: [] for sigma in sigmas}
    for first in range(0, len(scenes), batch):
        some = scenes[first : first + batch]
        part = _Part.of(pipe, some, seed + first)
        for sigma in sigmas:
            levels = pipe.clock.levels(torch.full_like(sound, sigma), sound)
            for scene, video in zip(some, part.estimate(pipe, levels), strict=True):
                frames = from_model_range(torch.cat(list(pipe.video_codec.decode_frames(video))))
                shown = rearrange(frames, "f c h w -> f h w c").cpu().numpy()
                shown[0] = scene.picture
                seen[sigma].append(judged.sees(shown, scene.effect))
    effects = np.array([scene.effect for scene in scenes])

    def shares(flags: Sequence[bool]) -> dict[str, float]:
        by_effect = {effect: float(np.mean(np.array(flags)[effects == effect])) for effect in dict.fromkeys(effects)}
        return {"all": float(np.mean(flags))} | by_effect

    return {sigma: shares(flags) for sigma, flags in seen.items()}


@dataclass(frozen=True)
class _Part:
    """A batch of scenes in latents, with noise of its own."""

    clean: JointLatents
    noise: JointLatents
    conditioning: Conditioning

    @classmethod
    def of(cls, pipe: JointDiTPipeline, scenes: Sequence[Scene], seed: int) -> _Part:
        generator = torch.Generator().manual_seed(seed)
        pictures, captions = [scene.picture for scene in scenes], [scene.caption for scene in scenes]
        cond = pipe.condition(pictures, captions, [None] * len(scenes), pipe.shape(), generator).conditional
        clean = JointLatents(
            *(torch.cat(each) for each in zip(*(_encode(pipe, scene) for scene in scenes), strict=True))
        )
        noise = clean.map(lambda x: torch.randn(x.shape, generator=generator).to(x.device))
        return cls(clean, noise, cond)

    def estimate(self, pipe: JointDiTPipeline, levels: Levels) -> Tensor:
        """The clean estimate of the video [B, F, C, h, w] at `levels`."""
        noisy = add_noise(self.clean, self.noise, levels)
        [estimate], _ = JointDenoiser(pipe.model, pipe.clock).denoise(noisy, levels, [Pass(self.conditioning)])
        return estimate.video


def _encode(pipe: JointDiTPipeline, scene: Scene) -> tuple[Tensor, Tensor]:
    """Scaled latents of both modalities, a batch of one."""
    pixels = to_model_range(rearrange(torch.from_numpy(scene.frames), "f h w c -> 1 f c h w"))
    video = pipe.video_codec.encode_video(pixels.to(pipe.device))
    return video, pipe.audio_codec.encode_audio(torch.from_numpy(scene.audio)[None].to(pipe.device))
