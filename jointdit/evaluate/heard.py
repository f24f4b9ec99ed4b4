"""What happens in sound, and when. Audio is float32 [channels, samples] at any rate, -1..1."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from ..encoders.mel import HOP, SAMPLE_RATE, log_mel
from ..media import resample_audio

RANGE = 5.0  # nepers below the clip's loudest point (43 dB) that count; noise further down is not heard
LAG = 3  # mel frames (10 ms) over which a rise is measured
EARLY = 0.015  # seconds by which a peak of the strength precedes the onset: the window of 64 ms sees it coming
LEAST_RISE = 0.15  # nepers, mean over mel bins
LEAST_SHARE = 0.25  # of the strongest onset of the clip
APART = 0.12  # seconds at least between two onsets
QUIET = 10 ** (-50 / 20)  # of the clip's loudest moment: where the loudness curve ends
SILENCE = 1e-4  # peak of a clip in which there is nothing to hear
SILENT = -45.0  # dB of full scale, mean loudness: a clip below says nothing to those who watch it


def mono_mel(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Log-mel [N, 64] of the mean channel, 10 ms a frame, in nepers from 0 at the loudest down to -RANGE."""
    mono = resample_audio(np.ascontiguousarray(audio.mean(0, keepdims=True)), sample_rate, SAMPLE_RATE)
    mono = np.pad(mono, ((0, 0), (0, max(0, HOP * 4 - mono.shape[1]))))
    mel = log_mel(torch.from_numpy(mono))[0].numpy()
    return np.maximum(mel - mel.max(), -RANGE)


def onset_strength(mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Spectral flux [N]: rise of a `mono_mel` within 30 ms, mean over bins, in nepers; and its times [N] in seconds."""
    strength = np.zeros(len(mel), np.float32)
    strength[LAG:] = np.maximum(mel[LAG:] - mel[:-LAG], 0).mean(1)
    times = (np.arange(len(mel)) + 0.5 - LAG / 2) * HOP / SAMPLE_RATE + EARLY
    return strength, times


def onsets(mel: NDArray[np.float32]) -> NDArray[np.float64]:
    """Times in seconds, rising, at which something sets in in a `mono_mel`."""
    strength, times = onset_strength(mel)
    least = max(LEAST_RISE, LEAST_SHARE * float(strength.max()))
    peaks, _ = find_peaks(strength, height=least, distance=round(APART * SAMPLE_RATE / HOP))
    return times[peaks]


def events_heard(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Times in seconds, rising, at which a sound sets in; none where there is no sound."""
    return np.empty(0) if is_silent(audio) else onsets(mono_mel(audio, sample_rate))


def is_silent(audio: NDArray[np.float32]) -> bool:
    """Whether there is no sound, or none that can be heard."""
    return not audio.size or float(np.abs(audio).max()) < SILENCE


def mean_loudness(audio: NDArray[np.float32]) -> float:
    """Root mean square of a clip in dB of full scale, at least -120."""
    return float(10 * np.log10(np.square(audio.astype(np.float64)).mean() + 1e-12))


def loudness(
    audio: NDArray[np.float32], sample_rate: int, fps: Fraction | float, frames: int, offset: float = 0.0
) -> NDArray[np.float32]:
    """Loudness [frames] in dB of full scale: root mean square over one frame's time around each (j + offset) / fps.

    Nothing is quieter than 50 dB below the loudest frame; a silent clip is flat.
    """
    if is_silent(audio):
        return np.full(frames, 20 * np.log10(SILENCE * QUIET), np.float32)
    width = max(1, round(sample_rate / float(fps)))
    power = uniform_filter1d(np.square(audio.astype(np.float64)).mean(0), width, mode="constant")
    at = np.rint((np.arange(frames) + offset) * sample_rate / float(fps)).astype(int)
    level = np.sqrt(np.maximum(power[at.clip(0, len(power) - 1)], 0))
    return (20 * np.log10(np.maximum(level, QUIET * level.max()))).astype(np.float32)
