"""A vocoder that is a bank of oscillators, and the clock that keeps their phases."""

import math

import numpy as np
import pytest
import torch

from jointdit.encoders.autoencoders import write_clock
from jointdit.encoders.mel import log_mel
from jointdit.recipes.tiny.oscillator_bank import CLOCK, KNOTS, OscillatorBank, as_vocoder, exponential_hinges


def test_the_vocoder_starts_with_the_right_spectrum_at_the_right_time():
    time = torch.arange(16000) / 16000
    noise = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    tone = 0.3 * sum(torch.sin(2 * torch.pi * f * time) for f in (300, 1200, 3000)) / 3
    bursts = 0.1 * noise * ((time % 0.5) < 0.2)
    sounds = torch.stack([tone, bursts])
    torch.manual_seed(0)
    vocoder = as_vocoder(OscillatorBank())
    with torch.no_grad():
        mel = log_mel(sounds)
        clocked = write_clock(mel, CLOCK)
        heard = log_mel(vocoder(clocked))
    loud = mel > -4
    assert loud.float().mean() > 0.2
    assert (heard - mel)[loud].abs().mean() < 0.6
    loudness, reference = heard[1].mean(1), mel[1].mean(1)
    assert np.corrcoef(loudness, reference)[0, 1] > 0.9
    silence = log_mel(torch.zeros(1, 16000))
    vocoder.half().float()  # weights are shipped in half precision
    with torch.no_grad():
        assert vocoder(write_clock(silence, CLOCK)).abs().max() < 1e-3
        assert (log_mel(vocoder(clocked)) - mel)[loud].abs().mean() < 0.6
        assert (log_mel(vocoder(mel)) - mel)[loud].abs().mean() < 1.2  # roughly, without a clock


@torch.no_grad()
def test_the_vocoder_sounds_what_the_bank_says():
    generator = torch.Generator().manual_seed(0)
    bank = OscillatorBank()
    bank.second.normal_(std=0.1, generator=generator)
    bank.mix.normal_(std=2e-3, generator=generator)
    mel = write_clock(torch.randn(2, 43, 64, generator=generator) - 4, CLOCK)
    wanted, got = bank(mel), as_vocoder(bank)(mel)
    assert got.shape == wanted.shape == (2, 43 * 160)
    # The lapped transform lacks half a block at each end.
    torch.testing.assert_close(got[:, 32:-32], wanted[:, 32:-32], atol=2e-5, rtol=0)


def strongest(waveform):
    """Hz, the strongest partial of [samples] at 16 kHz."""
    spectrum = torch.fft.rfft(waveform[2000:-2000] * torch.hann_window(len(waveform) - 4000), 2**18).abs()
    return spectrum.argmax().item() * 16000 / 2**18


@torch.no_grad()
@pytest.mark.parametrize("pitch", [440.0, 560.0, 737.0])
def test_steady_tones_keep_their_pitch_between_multiples_of_the_frame_rate(pitch):
    """Within a band's width before any training; the nearest multiples of 100 Hz are 165, 119 and 89 cents away."""
    torch.manual_seed(0)
    vocoder = as_vocoder(OscillatorBank())
    tone = 0.2 * torch.sin(2 * torch.pi * pitch * torch.arange(16000) / 16000)[None]
    heard = vocoder(write_clock(log_mel(tone), CLOCK))[0]
    assert abs(1200 * math.log2(strongest(heard) / pitch)) < 65


def test_the_clock_is_written_where_a_vocoder_asks_for_it():
    mel = torch.randn(2, 11, 64, generator=torch.Generator().manual_seed(0))
    assert write_clock(mel, ()) is mel
    written = write_clock(mel, (-12.0, -13.0, -14.0))
    assert torch.equal(written[..., :-1], mel[..., :-1])
    assert written[1, :5, -1].tolist() == [-12.0, -13.0, -14.0, -12.0, -13.0]


def test_hinges_add_up_to_an_exponential():
    weights, bias = exponential_hinges()
    level = torch.linspace(-10, 1.5, 50)[:, None]
    sums = torch.relu(level - torch.tensor(KNOTS)) @ weights + bias
    assert torch.allclose(sums / level[:, 0].exp(), torch.ones(50), atol=0.35)
