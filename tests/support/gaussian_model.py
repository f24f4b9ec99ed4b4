"""The joint model replaced by mathematics: the exact posterior mean of a pair of correlated Gaussians, per element."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from einops import rearrange
from torch import Tensor

from jointdit.diffusion.schedules import NoiseClock
from jointdit.latents import JointLatents
from jointdit.models.model import Conditioning

MEAN = (0.7, -0.4)
STD = (1.3, 0.6)


def video_scheduler(**changes) -> EulerDiscreteScheduler:
    """Stable Video Diffusion's."""
    config = {
        "prediction_type": "v_prediction",
        "timestep_type": "continuous",
        "timestep_spacing": "leading",
        "beta_schedule": "scaled_linear",
        "use_karras_sigmas": True,
        "sigma_min": 0.002,
        "sigma_max": 700.0,
        "steps_offset": 1,
    }
    return EulerDiscreteScheduler(**config | changes)


def audio_scheduler(**changes) -> DDIMScheduler:
    """AudioLDM2's noise levels with deterministic DDIM."""
    config = {
        "beta_start": 0.0015,
        "beta_end": 0.0195,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    return DDIMScheduler(**config | changes)


def clock() -> NoiseClock:
    return NoiseClock(video_scheduler(), audio_scheduler())


@dataclass(frozen=True)
class Inputs:
    """What `stem` hands to `trunk`."""

    tensors: tuple[Tensor, ...]

    def select(self, index: Tensor) -> Inputs:
        return Inputs(tuple(each.index_select(0, index) for each in self.tensors))


class GaussianModel:
    """Every video element z_v and the audio element z_a at its place are one draw of a bivariate Gaussian.

    Video [B, 1, 1, 1, K], audio [B, 1, 1, K]. Raw predictions are v and epsilon of E[z | x_v, x_a].
    """

    def __init__(self, correlation: float = 0.6) -> None:
        self.clock = clock()
        covariance = correlation * STD[0] * STD[1]
        self.covariance = torch.tensor([[STD[0] ** 2, covariance], [covariance, STD[1] ** 2]], dtype=torch.float64)
        self.mean = torch.tensor(MEAN, dtype=torch.float64)

    def posterior(self, video: Tensor, audio: Tensor, video_sigma: Tensor, audio_sigma: Tensor, isolated) -> Tensor:
        """x [B, K] and sigmas [B] -> E[z | x], [B, 2, K]."""
        noise = torch.diag_embed(torch.stack((video_sigma, audio_sigma), -1) ** 2)
        alone = torch.as_tensor(isolated).reshape(-1, 1, 1)
        covariance = torch.where(alone, torch.diag_embed(self.covariance.diagonal()), self.covariance)
        x = torch.stack((video, audio), dim=1) - self.mean[:, None]
        return self.mean[:, None] + covariance @ torch.linalg.solve(covariance + noise, x)

    def __call__(self, video, audio, c_noise, timestep, conditioning, isolated) -> JointLatents:
        s_v, s_a = (4 * c_noise.double()).exp(), self.clock.audio_sigma(timestep)
        x_v = rearrange(video[:, :, :1].double(), "b 1 1 1 k -> b k") * (s_v[:, None] ** 2 + 1).sqrt()
        x_a = rearrange(audio.double(), "b 1 1 k -> b k") * (s_a[:, None] ** 2 + 1).sqrt()
        z_v, z_a = self.posterior(x_v, x_a, s_v, s_a, isolated).unbind(1)
        s_v, s_a = s_v[:, None], s_a[:, None]
        v = (x_v / (s_v**2 + 1) - z_v) * (s_v**2 + 1).sqrt() / s_v
        return JointLatents(
            rearrange(v, "b k -> b 1 1 1 k").float(), rearrange((x_a - z_a) / s_a, "b k -> b 1 1 k").float()
        )

    def stem(self, *inputs) -> Inputs:
        return Inputs(inputs[:4])

    def trunk(self, stem: Inputs, isolated: Tensor, keep: bool = False, cut: None = None):
        return self(*stem.tensors, None, isolated), stem if keep else None

    def audio_only(self, audio, timestep, conditioning, kept: Inputs, isolated) -> Tensor:
        """With the state of the video as it was."""
        video, _, c_noise, _ = kept.tensors
        return self(video, audio, c_noise, timestep, None, isolated).audio


def conditioning(elements: int, batch: int = 1) -> Conditioning:
    """Nothing is said; the shapes fit."""
    nothing = torch.zeros(batch, 1, 1)
    return Conditioning(
        video_embeds=nothing,
        added_time_ids=torch.zeros(batch, 3),
        image_latents=torch.zeros(batch, 1, 1, elements),
        video_origin=torch.zeros(batch, 1, 1, elements),
        audio_embeds=nothing,
        audio_embeds_1=nothing,
        audio_mask_1=torch.ones(batch, 1),
        context_image=nothing,
        context_text=nothing,
        fps=torch.ones(batch),
    )


def latents(video: Tensor, audio: Tensor) -> JointLatents:
    """Elements [K] of each modality as a pair of one sample."""
    return JointLatents(rearrange(video, "k -> 1 1 1 1 k"), rearrange(audio, "k -> 1 1 1 k"))
