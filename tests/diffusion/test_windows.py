"""Windows of a long clip: where they lie, how they are blended, and what is known."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from jointdit import InputError
from jointdit.diffusion.samplers import audio_scale, dpmpp_2m, euler, heun
from jointdit.diffusion.schedules import SamplingGrid
from jointdit.diffusion.windows import Known, WindowedDenoiser
from jointdit.latents import ClipShape, JointLatents, LatentLayout

LAYOUT = LatentLayout(4, 8, 8, 4, 64, 160, 16000)


def clip(frames: int, fps: str | Fraction) -> ClipShape:
    return ClipShape(frames, Fraction(fps), 64, 64)


@pytest.mark.parametrize(
    ("frames", "fps", "window", "overlap"),
    [(250, "25/2", 20, 8), (50, "25/2", 20, 4), (420, "7", 14, 5), (61, "24000/1001", 20, 7), (30, "8", 4, 2)],
)
def test_windows_cover_the_clip_and_share_what_is_asked(frames, fps, window, overlap):
    windows = LAYOUT.windows(clip(frames, fps), window, overlap)
    assert windows.frames == frames and windows.audio_latents == LAYOUT.audio_length(clip(frames, fps))
    video, audio = zip(*windows.places(), strict=True)
    assert {place.stop - place.start for place in video} == {window} and video[-1].stop == frames
    for before, after in pairwise(windows.places()):
        assert before[0].stop - after[0].start >= overlap and before[1].stop > after[1].start
    apart = [abs(start.frame / Fraction(fps) - start.audio / LAYOUT.audio_rate) for start in windows.starts]
    assert max(apart) < 1 / LAYOUT.audio_rate
    if fps in ("25/2", "7"):
        assert max(apart[:-1]) == 0, "both grids meet between two windows, so that is where windows start"


def test_a_second_costs_as_many_windows_in_a_long_clip_as_in_a_short_one():
    counts = [len(LAYOUT.windows(clip(round(s * 12.5), "25/2"), 20, 8).starts) / s for s in (4, 8, 16, 30, 60)]
    assert max(counts) / min(counts) < 1.05


def test_a_clip_that_is_not_longer_is_one_window():
    assert len(LAYOUT.windows(clip(20, "25/2"), 20, 8).starts) == 1
    short = LAYOUT.windows(clip(7, "25/2"), 20, 8)
    assert len(short.starts) == 1 and short.shape.frames == 7
    for overlap in (0, 20, 21):
        with pytest.raises(InputError, match=f"an overlap of {overlap} frames"):
            LAYOUT.windows(clip(50, "25/2"), 20, overlap)


def noise(windows, seed: int = 0) -> JointLatents:
    generator = torch.Generator().manual_seed(seed)
    return JointLatents(
        torch.randn(1, windows.frames, 2, 3, 3, generator=generator),
        torch.randn(1, 2, windows.audio_latents, 4, generator=generator),
    )


def shrink(x, levels, keep=False):
    """A denoiser that knows nothing of its neighbours, with sub-steps."""
    return x.map(lambda part: part / 2), (lambda audio, levels: audio / 2) if keep else None


def test_windows_that_agree_are_as_one():
    windows = LAYOUT.windows(clip(53, "25/2"), 20, 8)
    x = noise(windows)
    estimate, again = WindowedDenoiser(shrink, windows)(x, None, keep=True)
    torch.testing.assert_close(estimate.video, x.video / 2)
    torch.testing.assert_close(estimate.audio, x.audio / 2)
    torch.testing.assert_close(again(x.audio, None), x.audio / 2)


def test_windows_that_do_not_agree_pass_into_each_other_smoothly():
    """Each window says its own number; the blend goes from one to the next without a step."""
    windows = LAYOUT.windows(clip(53, "25/2"), 20, 8)

    def numbered(x, levels, keep=False):
        count = len(x.video)
        numbers = torch.arange(count, dtype=torch.float32)
        return JointLatents(
            torch.zeros_like(x.video) + numbers.reshape(count, 1, 1, 1, 1),
            torch.zeros_like(x.audio) + numbers.reshape(count, 1, 1, 1),
        ), None

    estimate, _ = WindowedDenoiser(numbered, windows)(noise(windows), None)
    for curve, longest in ((estimate.video[0, :, 0, 0, 0], 0.25), (estimate.audio[0, 0, :, 0], 0.13)):
        assert curve[0] == 0 and curve[-1] == len(windows.starts) - 1
        assert (curve.diff() >= -1e-6).all() and curve.diff().max() < longest


@pytest.mark.parametrize("sample", [euler, heun, dpmpp_2m])
def test_what_is_known_is_seen_noised_at_every_level_and_comes_out_as_it_was(sample):
    windows = LAYOUT.windows(clip(20, "25/2"), 20, 8)
    known = Known(noise(windows, 1), torch.arange(20) < 8, torch.arange(40) < 16)
    timesteps = torch.linspace(900, 0, 9).double()
    grid = SamplingGrid(torch.tensor([9.0, 4.0, 1.0, 0.3, 0.0]).double(), timesteps, timesteps / 100 + 0.04)
    start = noise(windows, 2).map(lambda part: part * 9)
    drawn = (start.video - known.latents.video) / 9
    seen = []

    def watch(x, levels, keep=False):
        seen.append((levels.video_sigma.item(), x))
        return shrink(x, levels, keep)

    result = known.put(sample(known.hold(watch, audio_scale(grid)), start, grid))
    for sigma, x in seen:
        expected = known.latents.video + sigma * drawn
        torch.testing.assert_close(x.video[:, :8], expected[:, :8], atol=1e-4, rtol=1e-4)
    assert torch.equal(result.video[:, :8], known.latents.video[:, :8])
    assert torch.equal(result.audio[:, :, :16], known.latents.audio[:, :, :16])
    assert not torch.isclose(result.video[:, 8:], known.latents.video[:, 8:]).all()


def test_masks_of_another_length_are_refused():
    windows = LAYOUT.windows(clip(20, "25/2"), 20, 8)
    with pytest.raises(ValueError, match="masks of 19 and 40"):
        Known(noise(windows), torch.zeros(19, dtype=torch.bool), torch.zeros(40, dtype=torch.bool))
