"""What autoencoders and vocoder leave of a sound: the error of its log-mel, and of its pitch; and how it flutters."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import butter, hilbert, sosfiltfilt, stft

from ..encoders.mel import log_mel
from ..media import Clip

LOUD = 0.1  # of the loudest frame: quieter ones have no pitch to compare
TONAL = 0.5  # least share of a frame's power within three bins of its peak
FRAME, STEP, LENGTH = 2048, 512, 16_384  # samples; a frame is padded with zeros to LENGTH
FLUTTER_HZ = 25.0  # how often a latent of the sound follows the one before
FLUTTER_SECONDS = 0.16  # in which the depth is measured
PARTIAL_HZ = 80.0  # on each side of a partial
QUIETEST = -4.0  # nepers, some 75 dB below a loud tone


def log_mel_error(clip: Clip, truth: Clip) -> float:
    """Mean absolute difference of the log-mels, in dB. What is further down than can be heard does not count."""
    ours, theirs = (
        log_mel(torch.from_numpy(each.audio.mean(0, keepdims=True))).clamp(min=QUIETEST) for each in (clip, truth)
    )
    return float((ours - theirs).abs().mean()) * 20 / np.log(10)


def pitch_errors(clip: Clip, truth: Clip) -> NDArray[np.float64]:
    """Cents from the strongest partial of `truth` to that of `clip`, at each moment [N] at which the truth is loud and
    tonal."""
    (power, there), (_, here) = (_partials(each) for each in (truth, clip))
    total = power.sum(0)
    around = np.arange(len(power))[:, None] - power.argmax(0)
    tonal = np.where(np.abs(around) <= 3 * LENGTH // FRAME, power, 0).sum(0) > TONAL * total
    kept = tonal & (total > LOUD * total.max())
    return 1200 * np.log2(here[kept] / there[kept])


def flutter(clip: Clip) -> float:
    """How deeply the strongest partial of a sound is modulated at 25 Hz: 0 where it is steady or fades, 1 where it
    vanishes 25 times a second. Mean over its loud moments, NaN where there is none."""
    sound, rate = clip.audio.mean(0), clip.sample_rate
    strongest = np.fft.rfftfreq(len(sound), 1 / rate)[np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax()]
    edges = max(strongest - PARTIAL_HZ, 20.0), min(strongest + PARTIAL_HZ, 0.49 * rate)
    level = np.abs(hilbert(sosfiltfilt(butter(4, edges, "bandpass", fs=rate, output="sos"), sound)))
    period, length = round(rate / FLUTTER_HZ), round(FLUTTER_SECONDS * rate)
    steady = np.convolve(level, np.full(period, 1 / period), "same")  # nothing is left of 25 Hz
    wave = np.hanning(length) * np.exp(-2j * np.pi * FLUTTER_HZ * np.arange(length) / rate)
    depths = []
    for start in range(length, len(sound) - 2 * length, length // 2):  # off the ends, which fade
        part = slice(start, start + length)
        if steady[part].min() > LOUD * steady.max():
            depths.append(2 * abs((level - steady)[part] @ wave) / np.abs(wave).sum() / steady[part].mean())
    return float(np.mean(depths)) if depths else float("nan")


def _partials(clip: Clip) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Power spectra [K, N], and the frequency [N] of the strongest partial, by a parabola through its log power."""
    _, _, spectrum = stft(
        clip.audio.mean(0),
        nperseg=FRAME,
        noverlap=FRAME - STEP,
        nfft=LENGTH,
        boundary=None,  # pyright: ignore[reportArgumentType] (documented; scipy's default is all that pyright sees)
    )
    power = np.abs(spectrum) ** 2 + 1e-20
    peak = power.argmax(0).clip(1, len(power) - 2)
    left, middle, right = (np.log(power[peak + shift, np.arange(len(peak))]) for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    place = peak + np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1), 0)
    return power, place * clip.sample_rate / LENGTH
