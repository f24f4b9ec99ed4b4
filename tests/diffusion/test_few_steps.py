"""The consistency sampler: exact for an exact consistency function, on the published levels, sound as ever."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gaussian_model import MEAN, STD, GaussianModel, clock, latents
from gaussian_model import conditioning as nothing

from jointdit.diffusion.denoiser import JointDenoiser
from jointdit.diffusion.guidance import JointCFG
from jointdit.diffusion.samplers import FreshNoise, euler, initial_noise, lcm
from jointdit.errors import InputError

ELEMENTS = 40_000


def karras(places: np.ndarray) -> np.ndarray:
    return (700 ** (1 / 7) + places * (0.002 ** (1 / 7) - 700 ** (1 / 7))) ** 7


@pytest.mark.parametrize(("steps", "every"), [(1, 40), (4, 10), (6, 6), (8, 5), (25, 1), (40, 1)])
def test_the_levels_are_every_so_many_of_the_forty_that_were_distilled(steps, every):
    found = clock().consistency_sigmas(steps).numpy()
    expected = [*karras(np.linspace(0, 1, 40))[: every * steps : every], 0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("steps", [0, 41])
def test_more_steps_than_levels_are_refused(steps):
    with pytest.raises(InputError, match=f"steps {steps}: consistency models take 1 to 40"):
        clock().consistency_sigmas(steps)


def consistent(denoise):
    """A denoiser whose video goes all the way of the probability flow, as a consistency model's does."""

    def jump(x, levels, keep=False):
        estimate, again = denoise(x, levels, keep)
        shrink = (1 + levels.video_sigma**2 / STD[0] ** 2).rsqrt()
        return replace(estimate, video=MEAN[0] + (x.video - MEAN[0]) * shrink), again

    return jump


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_an_exact_consistency_model_gives_the_exact_distribution_in_few_steps(steps):
    noise = clock()
    grid = noise.grid(sigmas=noise.consistency_sigmas(steps), audio_substeps=32 // steps)
    plain = JointCFG(mode="none").denoiser(JointDenoiser(GaussianModel(correlation=0), noise), nothing(ELEMENTS))
    draws = torch.Generator().manual_seed(0)
    start = latents(torch.randn(ELEMENTS, generator=draws), torch.randn(ELEMENTS, generator=draws))
    fresh = FreshNoise(0.0, lambda: torch.randn(1, 1, 1, 1, ELEMENTS, generator=draws))
    out = lcm(consistent(plain), initial_noise(start, grid), grid, None, fresh)
    assert out.video.mean().item() == pytest.approx(MEAN[0], abs=0.03)
    assert out.video.std().item() == pytest.approx(STD[0], abs=0.02)
    other = euler(plain, initial_noise(start, grid), grid)
    assert torch.equal(out.audio, other.audio), "the sound is Euler's, on its own sub-steps"
