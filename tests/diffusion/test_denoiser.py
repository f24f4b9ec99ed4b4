"""One denoiser for the loss and the samplers: batches, levels, and the minimiser of its loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gaussian_model import MEAN, GaussianModel, clock, latents
from gaussian_model import conditioning as nothing
from tiny_models import LATENT, conditioning, joint_model

from jointdit.diffusion.denoiser import JointDenoiser, Pass, add_noise, clean_estimates, model_inputs, training_targets
from jointdit.diffusion.schedules import Levels
from jointdit.latents import JointLatents
from jointdit.models.model import Conditioning


@pytest.fixture(scope="module")
def model():
    return joint_model(open_gates=True)


def noise(batch: int = 2, seed: int = 0) -> JointLatents:
    generator = torch.Generator().manual_seed(seed)
    return JointLatents(
        torch.randn(batch, 3, LATENT, 8, 8, generator=generator),
        torch.randn(batch, LATENT, 12, 16, generator=generator),
    )


def levels(*pairs: tuple[float, float]) -> Levels:
    sigma, timestep = torch.tensor(pairs, dtype=torch.float64).T
    return clock().levels(sigma, timestep)


def same(ours: JointLatents, theirs: JointLatents) -> None:
    torch.testing.assert_close(ours.video, theirs.video, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.audio, theirs.audio, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("max_batch", [None, 1, 3])
@torch.no_grad()
def test_passes_in_one_batch_equal_each_alone(model, max_batch):
    joint = JointDenoiser(model, clock(), max_batch)
    cond, negative = conditioning(2), conditioning(2, seed=9)
    passes = [Pass(cond), Pass(negative, isolated=True), Pass(cond, isolated=True)]
    x, level = noise(), levels((1.5, 300), (0.4, 700))
    together, audio_passes = joint.denoise(x, level, passes, keep=True)
    again = audio_passes(x.audio, level)
    for each, ours, audio in zip(passes, together, again, strict=True):
        raw = model(*model_inputs(x, level, each.conditioning), each.conditioning, isolated=each.isolated)
        plain = clean_estimates(x, raw, level, each.conditioning)
        same(ours, plain)
        torch.testing.assert_close(audio, plain.audio, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("max_batch", [None, 1])
@torch.no_grad()
def test_a_pass_of_the_audio_alone_does_not_run_the_video_expert(model, max_batch):
    joint, cond, negative = JointDenoiser(model, clock(), max_batch), conditioning(2), conditioning(2, seed=9)
    x, level, rows = noise(), levels((1.5, 300), (0.4, 700)), []
    plain, plain_again = joint.denoise(x, level, [Pass(negative, isolated=True), Pass(cond)], keep=True)
    hook = model.video_unet.conv_in.register_forward_hook(lambda _, args, out: rows.append(len(out) // 3))
    found, again = joint.denoise(x, level, [Pass(negative, isolated=True, audio_only=True), Pass(cond)], keep=True)
    hook.remove()
    assert sum(rows) == 2
    same(found[1], plain[1])
    later = levels((1.5, 200), (0.4, 600))
    pairs = zip((found[0].audio, *again(x.audio, later)), (plain[0].audio, *plain_again(x.audio, later)), strict=True)
    for ours, expected in pairs:
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_shared_in_gives_the_plain_numbers(model):
    joint, cond, x = JointDenoiser(model, clock()), conditioning(2), noise()
    copy = cond.select(torch.arange(2))  # another object: In is not shared
    shared, _ = joint.denoise(x, levels((2.0, 500)), [Pass(cond), Pass(cond, isolated=True)])
    apart, _ = joint.denoise(x, levels((2.0, 500)), [Pass(cond), Pass(copy, isolated=True)])
    for ours, plain in zip(shared, apart, strict=True):
        same(ours, plain)


@torch.no_grad()
def test_max_batch_bounds_the_rows(model):
    rows = []
    hook = model.video_unet.mid_block.register_forward_hook(lambda _, args, out: rows.append(len(out) // 3))
    cond = conditioning(2)
    JointDenoiser(model, clock(), max_batch=2).denoise(
        noise(), levels((1.0, 400)), [Pass(cond), Pass(cond, isolated=True)]
    )
    hook.remove()
    assert rows == [2, 2]


@torch.no_grad()
def test_image_latents_are_not_scaled_and_the_rest_is(model):
    cond, x, level = conditioning(2), noise(), levels((3.0, 500))
    video, audio, c_noise, timestep = model_inputs(x, level, cond)
    torch.testing.assert_close(video[:, :, :LATENT], x.video / 10**0.5)
    assert all(torch.equal(video[:, frame, LATENT:], cond.image_latents) for frame in range(3))
    torch.testing.assert_close(audio, x.audio / (clock().audio_sigma(torch.tensor(500)) ** 2 + 1).sqrt().float())
    assert c_noise.item() == pytest.approx(torch.tensor(3.0).log().item() / 4) and timestep.item() == 500


@pytest.mark.parametrize("origin", [0.0, 2.0])
def test_perfect_predictions_give_the_clean_latents_and_no_loss(origin):
    clean, drawn, level = noise(seed=1), noise(seed=2), levels((5.0, 999), (0.01, 0))
    cond = measured_from(conditioning(2), origin)
    noisy = add_noise(clean, drawn, level)
    found = clean_estimates(noisy, training_targets(clean, drawn, level, cond), level, cond)
    torch.testing.assert_close(found.video, clean.video, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.audio, clean.audio, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_video_measured_from_the_picture_is_the_same_to_the_network(model):
    joint, x, level, plain = JointDenoiser(model, clock()), noise(), levels((3.0, 500)), conditioning(2)
    moved = measured_from(plain, 2.0)
    shift = moved.video_origin[:, None]
    [found], _ = joint.denoise(x, level, [Pass(plain)])
    [there], _ = joint.denoise(JointLatents(x.video + shift, x.audio), level, [Pass(moved)])
    torch.testing.assert_close(there.video, found.video + shift, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(there.audio, found.audio)


def measured_from(cond: Conditioning, origin: float) -> Conditioning:
    return replace(cond, video_origin=origin * cond.image_latents)


def test_the_loss_trains_both_experts_and_the_joint_blocks():
    model = joint_model(open_gates=True)
    joint, clean = JointDenoiser(model, clock()), noise(seed=1)

    def losses(seed: int):
        return joint.losses(clean, conditioning(2), torch.tensor([False, True]), torch.Generator().manual_seed(seed))

    video, audio = losses(3)
    assert video.shape == audio.shape == (2,)
    (video.mean() + audio.mean()).backward()
    for part in (model.video_unet, model.audio_unet, model.joint_blocks.blocks):
        assert all(each.grad is not None and each.grad.isfinite().all() for each in part.parameters())
    with torch.no_grad():
        assert torch.equal(losses(3)[0], video) and not torch.equal(losses(4)[0], video)


class Stretched:
    """A model whose raw predictions are off by a factor and an offset."""

    def __init__(self, model: GaussianModel, factor: float, offset: float) -> None:
        self.model, self.factor, self.offset = model, factor, offset

    def __call__(self, *inputs) -> JointLatents:
        return self.model(*inputs).map(lambda raw: self.factor * raw + self.offset)


@pytest.mark.parametrize(("video_sigma", "timestep"), [(0.3, 900.0), (1.0, 500.0), (20.0, 40.0)])
@torch.no_grad()
def test_the_posterior_mean_minimises_the_loss(video_sigma, timestep):
    count, exact = 100_000, GaussianModel()
    draws = torch.randn(2, count, generator=torch.Generator().manual_seed(0))
    clean = latents(*(torch.linalg.cholesky(exact.covariance).float() @ draws + torch.tensor(MEAN)[:, None]))
    level = levels((video_sigma, timestep))

    def loss(model, isolated: bool = False) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.cat(JointDenoiser(model, clock()).losses(clean, nothing(count), isolated, generator, level))

    # What is left is the posterior's variance, in units of the raw predictions.
    sigmas = torch.stack((level.video_sigma, level.audio_sigma)).double().flatten()
    noisy = exact.covariance + torch.diag(sigmas**2)
    left = (exact.covariance - exact.covariance @ torch.linalg.solve(noisy, exact.covariance)).diagonal()
    unit = torch.stack(((sigmas[0] ** 2 + 1) / sigmas[0] ** 2, 1 / sigmas[1] ** 2))
    best = loss(exact)
    torch.testing.assert_close(best, (left * unit).float(), atol=0, rtol=0.02)
    for factor, offset in ((1.05, 0), (0.95, 0), (1, 0.05), (1, -0.05)):
        assert (loss(Stretched(exact, factor, offset)) > best).all()
    gain = loss(exact, isolated=True) / best
    assert gain.min() > 0.999 and gain.max() > 1.01  # the other modality tells most about the noisier one
