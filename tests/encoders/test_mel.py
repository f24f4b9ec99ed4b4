"""The log-mel is AudioLDM2's: compared with a plain float64 reference."""

import math

import numpy as np
import pytest
import torch

from jointdit.encoders.mel import BINS, HOP, SAMPLE_RATE, SILENCE, WINDOW, log_mel


def slaney_mel(hertz):
    """Slaney's scale: linear up to 1 kHz, then 27 steps per factor of 6.4."""
    hertz = np.asarray(hertz, dtype=np.float64)
    return np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(np.maximum(hertz, 1e-9) / 1000) * 27 / np.log(6.4))


def slaney_hertz(mel):
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def reference(waveform):
    edges = slaney_hertz(np.linspace(0, slaney_mel(8000), BINS + 2))
    frequencies = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    filters = np.zeros((BINS, len(frequencies)))
    for i, (low, middle, high) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        triangle = np.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle))
        filters[i] = np.maximum(triangle, 0) * 2 / (high - low)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    edge = (WINDOW - HOP) // 2
    padded = np.pad(waveform.astype(np.float64), edge, mode="reflect")
    starts = range(0, len(padded) - WINDOW + 1, HOP)
    magnitudes = np.abs([np.fft.rfft(window * padded[s : s + WINDOW]) for s in starts])
    return np.log(np.maximum(magnitudes @ filters.T, 1e-5))


def test_equals_the_reference():
    rng = np.random.default_rng(0)
    time = np.arange(16000) / SAMPLE_RATE
    waveform = 0.3 * np.sin(2 * np.pi * 700 * time) * (time > 0.2) + 0.05 * rng.standard_normal(16000)
    ours = log_mel(torch.from_numpy(waveform).float()[None])[0].numpy()
    assert ours.shape == (100, BINS)
    np.testing.assert_allclose(ours, reference(waveform), atol=2e-4)


def test_silence_is_the_logarithm_of_the_floor():
    mel = log_mel(torch.zeros(2, 1600))
    assert mel.shape == (2, 10, BINS)
    assert torch.all(mel == torch.tensor(math.log(1e-5)))
    assert pytest.approx(-11.513, abs=1e-3) == SILENCE


def test_a_click_is_strongest_in_its_own_frame():
    waveform = torch.zeros(1, 8000)
    waveform[0, 20 * HOP + HOP // 2] = 1.0
    assert log_mel(waveform).mean(2).argmax() == 20


@pytest.mark.parametrize("shape", [(16000,), (1, 432), (1, 1, 16000)])
def test_other_shapes_are_named(shape):
    with pytest.raises(ValueError, match="waveform has shape"):
        log_mel(torch.zeros(shape))
