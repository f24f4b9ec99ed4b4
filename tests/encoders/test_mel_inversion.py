"""A sound that has a given log-mel: its tones, its bursts, its beginning."""

from __future__ import annotations

import pytest
import torch

from jointdit import JointDiTPipeline
from jointdit.encoders.autoencoders import AudioAutoencoder
from jointdit.encoders.mel import log_mel
from jointdit.encoders.mel_inversion import BEGINNING, match_log_mel

RATE, ROUNDS = 16_000, 60


def tone(hertz: float, seconds: float = 1.0) -> torch.Tensor:
    """[1, samples]."""
    return 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)[None]


def noise(samples: int) -> torch.Tensor:
    return 0.01 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def codec() -> AudioAutoencoder:
    return JointDiTPipeline.from_pretrained("tiny").audio_codec


@pytest.mark.parametrize("hertz", [260.0, 437.0, 1234.0])
def test_a_tone_gets_its_pitch_and_does_not_flutter(codec, hertz):
    sound = codec.vocode(log_mel(tone(hertz))).detach()
    spectrum = torch.fft.rfft(sound[0] * torch.hann_window(RATE)).abs()  # 1 Hz apart
    assert 2 ** (-20 / 1200) < spectrum.argmax().item() / hertz < 2 ** (20 / 1200)
    level = sound[0, 1600:-1600].unfold(0, 640, 160).square().mean(1).sqrt()
    assert level.std() < 0.1 * level.mean(), "it flutters"


def test_a_burst_stays_where_it_is():
    burst = torch.zeros(1, RATE)
    burst[:, 8000:8800] = 30 * noise(800)
    sound = match_log_mel(noise(RATE), log_mel(burst), ROUNDS)
    energy = sound[0].square()
    assert energy[7950:8850].sum() > 0.98 * energy.sum()  # after one round 0.93: a frame lasts 64 ms


def test_it_goes_on_from_a_known_beginning(codec):
    whole, known = tone(437.0), tone(437.0)[:, :8000]
    sound = codec.vocode(log_mel(whole), known).detach()
    torch.testing.assert_close(sound[:, : 8000 - BEGINNING], known[:, :-BEGINNING])
    assert sound.diff(2)[:, :-640].abs().max() < 1.3 * whole.diff(2).abs().max(), "a click where it goes on"
    level = sound[0, 7000:12_000].unfold(0, 640, 160).square().mean(1).sqrt()
    assert level.min() > 0.7 * level.max(), "a gap where it goes on"


def test_no_rounds_leave_a_sound_as_it_is():
    sound = tone(300.0)
    assert match_log_mel(sound, torch.randn(1, 100, 64), 0) is sound


def test_what_is_asked_of_the_bundled_model_is_heard(codec, monkeypatch):
    mel = log_mel(tone(437.0) + noise(RATE))
    errors = {}
    for rounds in (codec.needed_vocoder.config.phase_rounds, 0):
        monkeypatch.setattr(codec.needed_vocoder.config, "phase_rounds", rounds)
        errors[rounds] = (log_mel(codec.vocode(mel).detach()) - mel).abs().mean().item()
    assert errors[ROUNDS] < 0.3 * errors[0]
