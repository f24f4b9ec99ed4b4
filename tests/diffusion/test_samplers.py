"""Samplers on the exact posterior mean of a Gaussian, and on the real model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gaussian_model import MEAN, STD, GaussianModel, clock, latents
from gaussian_model import conditioning as nothing
from tiny_models import LATENT, conditioning, joint_model

from jointdit.diffusion.denoiser import JointDenoiser, Pass
from jointdit.diffusion.guidance import GuidedDenoiser, JointCFG
from jointdit.diffusion.samplers import FreshNoise, dpmpp_2m, euler, heun, hold_audio, hold_video, initial_noise
from jointdit.latents import JointLatents

SAMPLERS = (euler, heun, dpmpp_2m)


def affine(sample, grid, correlation: float = 0.6) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean [2] and covariance [2, 2] that a sampler gives a pair of elements: exact, as what it does is affine."""
    denoise = JointCFG(mode="none").denoiser(JointDenoiser(GaussianModel(correlation), clock()), nothing(3))
    noise = latents(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0]))
    out = sample(denoise, initial_noise(noise, grid), grid)
    out = torch.stack((out.video.flatten(), out.audio.flatten()))
    slope = out[:, 1:] - out[:, :1]
    return out[:, 0], slope @ slope.T


@pytest.mark.parametrize("substeps", [1, 3])
@pytest.mark.parametrize("audio", ["even", "coupled"])
@pytest.mark.parametrize(("sample", "steps", "error"), [(euler, 333, 0.05), (heun, 111, 0.01), (dpmpp_2m, 111, 0.01)])
def test_samplers_reach_the_mean_the_variances_and_the_correlation(sample, steps, error, audio, substeps):
    reaches(sample, clock().grid(steps, audio=audio, audio_substeps=substeps), error)


@pytest.mark.parametrize(("sample", "error"), [(euler, 0.05), (heun, 0.01), (dpmpp_2m, 0.01)])
def test_a_sound_that_trails_agrees_with_the_finished_video(sample, error):
    reaches(sample, clock().grid(333 if sample is euler else 111, audio="trailing", audio_substeps=6), error)


def reaches(sample, grid, error: float) -> None:
    mean, covariance = affine(sample, grid)
    shrink = (grid.audio_sigmas[-1] ** 2 + 1).rsqrt().item()  # AudioLDM2's latents at t = 0
    expected = GaussianModel().covariance.float() + torch.diag(torch.tensor([0, 0.0388**2]))
    scale = torch.tensor([1, shrink])
    torch.testing.assert_close(mean, torch.tensor(MEAN) * scale, atol=error, rtol=0)
    torch.testing.assert_close(covariance, expected * scale * scale[:, None], atol=error, rtol=0)


def solution_error(sample, steps: int, substeps: int) -> tuple[float, float]:
    """Error of each modality against the closed form of the probability flow of a Gaussian."""
    noise = clock()
    sigmas = torch.logspace(1, -1, steps + 1)
    grid = noise.grid(sigmas=sigmas, audio=torch.linspace(900, 10, steps * substeps + 1), audio_substeps=substeps)
    denoise = JointCFG(mode="none").denoiser(JointDenoiser(GaussianModel(correlation=0), noise), nothing(1))
    start = latents(torch.tensor([8.0]), torch.tensor([-20.0]))
    out = sample(denoise, start, grid)
    errors = []
    for number, (name, levels) in enumerate((("video", grid.video_sigmas), ("audio", grid.audio_sigmas))):
        first, last, variance = levels[0] ** 2, levels[-1] ** 2, STD[number] ** 2
        exact = MEAN[number] + (getattr(start, name) - MEAN[number]) * ((variance + last) / (variance + first)).sqrt()
        exact = exact * (last + 1).rsqrt() if name == "audio" else exact
        errors.append((getattr(out, name) - exact).abs().item())
    return errors[0], errors[1]


@pytest.mark.parametrize("substeps", [1, 2])
def test_heun_and_dpmpp_2m_converge_at_second_order_and_euler_at_first(substeps):
    for sample, steps, low, high in ((euler, 16, 1.7, 2.4), (heun, 16, 3.5, 4.6), (dpmpp_2m, 48, 3.2, 4.5)):
        coarse, fine = solution_error(sample, steps, substeps), solution_error(sample, 2 * steps, substeps)
        for before, after in zip(coarse, fine, strict=True):
            assert low < before / after < high, f"{sample.__name__}: {before:.2e} -> {after:.2e}"


@pytest.mark.parametrize("sample", [heun, dpmpp_2m])
@pytest.mark.parametrize("sigmas", [[30.0, 11.0, 4.0, 2.0, 0.02, 0.01, 0.0], [4.0, 3.0, 0.1, 0.0], [300.0, 0.3, 0.0]])
def test_a_leap_of_the_grid_does_not_multiply_the_errors_of_a_network(sample, sigmas):
    """A network's v is a little wrong at every level, so that its clean estimate errs with sigma."""
    noise = clock()
    grid = noise.grid(sigmas=torch.tensor(sigmas), audio="trailing", audio_substeps=8)
    exact = JointCFG(mode="none").denoiser(JointDenoiser(GaussianModel(), noise), nothing(1000))

    def video(sample, error: float) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)

        def denoise(x, levels, keep=False):
            estimate, again = exact(x, levels, keep)
            sigma = levels.video_sigma
            wrong = error * sigma * (1 + sigma**2).rsqrt() * torch.randn(x.video.shape, generator=generator)
            return JointLatents(estimate.video + wrong, estimate.audio), again

        start = latents(*(torch.randn(1000, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)))
        return sample(denoise, initial_noise(start, grid), grid).video

    grain, least = ((video(each, error=0.2) - video(each, error=0)).std().item() for each in (sample, euler))
    assert grain < 1.5 * least


@pytest.mark.parametrize("sample", SAMPLERS)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_fresh_noise_keeps_the_mean_and_replaces_the_starts_noise(sample, share):
    grid = clock().grid(sigmas=torch.logspace(1.5, -1.5, 31))
    denoise = JointCFG(mode="none").denoiser(JointDenoiser(GaussianModel(correlation=0), clock()), nothing(4000))
    draws = torch.Generator().manual_seed(0)

    def video(seed: int) -> torch.Tensor:
        start = torch.randn(4000, generator=torch.Generator().manual_seed(seed))
        noise = FreshNoise(share, lambda: torch.randn(1, 1, 1, 1, 4000, generator=draws))
        return sample(denoise, initial_noise(latents(start, start), grid), grid, None, noise).video.flatten()

    one, two = video(1), video(1)
    assert one.mean().item() == pytest.approx(MEAN[0], abs=0.05)
    kept = torch.corrcoef(torch.stack((one, two)))[0, 1]  # the same start
    assert kept < (0.1 if share == 1 else 0.5)


@pytest.mark.parametrize("sample", SAMPLERS)
def test_a_video_that_is_held_gets_no_fresh_noise(sample, joint):
    grid = joint.clock.grid(3, hold="video")
    video = noise().video
    start = hold_video(initial_noise(noise(), grid), video)
    fresh = FreshNoise(1.0, lambda: torch.full_like(video, torch.nan))
    assert torch.equal(sample(full(joint), start, grid, None, fresh).video, video)


@pytest.fixture(scope="module")
def joint() -> JointDenoiser:
    """The real model with open gates."""
    return JointDenoiser(joint_model(open_gates=True), clock())


def noise() -> JointLatents:
    generator = torch.Generator().manual_seed(0)
    return JointLatents(
        torch.randn(1, 2, LATENT, 4, 4, generator=generator), torch.randn(1, LATENT, 8, 8, generator=generator)
    )


def full(joint: JointDenoiser) -> GuidedDenoiser:
    return JointCFG(mode="none").denoiser(joint, conditioning(1, height=4, width=4))


@pytest.mark.parametrize("sample", SAMPLERS)
@torch.no_grad()
def test_audio_that_rests_is_not_guided_and_ends_as_if_it_were(sample, joint, monkeypatch):
    sigmas = torch.tensor([80.0, 20.0, 8.0, 0.5, 0.0])  # the audio falls in the last step
    grid = joint.clock.grid(sigmas=sigmas, audio="trailing", audio_substeps=2)
    sides = (conditioning(1, seed=seed, height=4, width=4) for seed in (3, 4))
    guided, steps = JointCFG("joint-cfg", video_joint_scale=1, audio_joint_scale=2.5).denoiser(joint, *sides), []
    alone = joint.model.audio_alone
    monkeypatch.setattr(joint.model, "audio_alone", lambda *given: steps.append(0) or alone(*given))

    def always(x, levels, keep=False):
        return guided(x, replace(levels, audio_rests=False), keep=True)

    rests = [grid.levels(step).audio_rests for step in range(grid.steps)]
    assert rests == [True, True, True, False]
    ours, few = sample(guided, initial_noise(noise(), grid), grid), len(steps)
    theirs = sample(always, initial_noise(noise(), grid), grid)
    assert len(steps) - few == few + 3
    assert torch.equal(ours.video, theirs.video) and torch.equal(ours.audio, theirs.audio)


@pytest.mark.parametrize("sample", SAMPLERS)
@torch.no_grad()
def test_isolated_substeps_are_the_finer_audio_grid_alone(sample, joint):
    alone = [Pass(conditioning(1, height=4, width=4), isolated=True)]

    def denoise(x, levels, keep=False):
        (estimate,), audio_passes = joint.denoise(x, levels, alone, keep)
        return estimate, lambda audio, levels: audio_passes(audio, levels)[0]

    grid, finer = joint.clock.grid(2, audio_substeps=3), joint.clock.grid(6)
    ours = sample(denoise, initial_noise(noise(), grid), grid)
    theirs = sample(denoise, initial_noise(noise(), finer), finer)
    torch.testing.assert_close(ours.audio, theirs.audio, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sample", SAMPLERS)
@torch.no_grad()
def test_substeps_change_the_audio_and_cost_no_video_evaluation(sample, joint):
    counts, handles = {"video": 0, "audio": 0}, []

    def run(substeps: int) -> tuple[JointLatents, dict[str, int]]:
        counts.update(video=0, audio=0)
        sound = torch.linspace(600, 200, 2 * substeps + 1)
        grid = joint.clock.grid(sigmas=torch.tensor([8.0, 2.0, 0.0]), audio=sound, audio_substeps=substeps)
        return sample(full(joint), initial_noise(noise(), grid), grid), dict(counts)

    for name in counts:
        block = getattr(joint.model, f"{name}_unet").mid_block
        count = lambda *_, name=name: counts.update({name: counts[name] + 1})  # noqa: E731
        handles.append(block.register_forward_hook(count))
    (one, plain), (three, more) = run(1), run(3)
    for handle in handles:
        handle.remove()
    evaluations = 3 if sample is heun else 2  # of heun's two steps the last, to sigma 0, is Euler's
    assert plain == {"video": evaluations, "audio": evaluations}
    assert more == {"video": evaluations, "audio": evaluations + (8 if sample is heun else 4)}
    assert (one.audio - three.audio).abs().max() > 1e-2
    assert three.video.isfinite().all() and three.audio.isfinite().all()


@torch.no_grad()
def test_the_first_substep_is_the_joint_estimate(joint):
    grid = joint.clock.grid(3)
    x, denoise = initial_noise(noise(), grid), full(joint)
    estimate, audio_again = denoise(x, grid.levels(0), keep=True)
    torch.testing.assert_close(audio_again(x.audio, grid.levels(0)), estimate.audio, atol=1e-4, rtol=1e-5)
    assert denoise(x, grid.levels(0))[1] is None


@pytest.mark.parametrize("sample", SAMPLERS)
@torch.no_grad()
def test_a_held_modality_comes_back(sample, joint):
    denoise, given = full(joint), noise().map(lambda part: part * 0.5)
    grid = joint.clock.grid(2, hold="video")
    sounded = sample(denoise, hold_video(initial_noise(noise(), grid), given.video), grid)
    assert torch.equal(sounded.video, given.video)
    grid = joint.clock.grid(2, hold="audio", audio_substeps=2)
    animated = sample(denoise, hold_audio(initial_noise(noise(), grid), given.audio, grid), grid)
    torch.testing.assert_close(animated.audio, given.audio, atol=1e-6, rtol=1e-6)
    assert (sounded.audio - given.audio).abs().max() > 0.1 < (animated.video - given.video).abs().max()


@torch.no_grad()
def test_a_held_modality_shapes_the_other(joint):
    denoise, sounds, videos = full(joint), [], []
    for sign in (1, -1):
        grid = joint.clock.grid(2, hold="video")
        sounds.append(euler(denoise, hold_video(initial_noise(noise(), grid), sign * noise().video), grid).audio)
        grid = joint.clock.grid(2, hold="audio")
        videos.append(euler(denoise, hold_audio(initial_noise(noise(), grid), sign * noise().audio, grid), grid).video)
    assert (sounds[0] - sounds[1]).abs().max() > 1e-3 < (videos[0] - videos[1]).abs().max()


@pytest.mark.parametrize("sample", SAMPLERS)
@torch.no_grad()
def test_callback_sees_every_step_and_may_interrupt(sample, joint):
    grid, seen, x = joint.clock.grid(3), [], noise()

    def watch(done: int, total: int, estimate: JointLatents) -> None:
        seen.append((done, total, estimate.video.shape, estimate.audio.shape))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(full(joint), initial_noise(x, grid), grid, watch)
    assert seen == [(step, 3, x.video.shape, x.audio.shape) for step in (1, 2)]


@pytest.mark.parametrize("sample", SAMPLERS)
@torch.no_grad()
def test_while_the_audio_rests_its_expert_takes_no_substeps(sample):
    calls = []

    def denoise(x, levels, keep=False):
        return x.map(lambda part: part / 2), lambda audio, levels: calls.append(levels) or audio / 2

    grid = clock().grid(4, audio=torch.tensor([900.0] * 7 + [450.0, 0.0]), audio_substeps=2)
    x = latents(torch.tensor([1.0]), torch.tensor([1.0]))
    states = []
    sample(denoise, x, grid, lambda done, total, estimate: states.append(estimate.audio.item()))
    assert states == [0.5] * 4, "the sound stands until the last step"
    assert {level.audio_timestep.item() for level in calls} <= {450.0, 0.0}
