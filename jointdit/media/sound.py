"""Waveforms of the right length and rate."""

from __future__ import annotations

import wave
from fractions import Fraction
from os import PathLike

import av
import numpy as np

from ..errors import InputError


def fit_audio(audio: np.ndarray, samples: int, fade: int = 128) -> np.ndarray:
    """Cut `audio` (float [channels, n]) to `samples`, or pad it with zeros: float32 [channels, samples], a new array.

    Where sound is cut off, its last `fade` samples fall linearly to zero, so that the cut does not click.
    """
    fitted = np.zeros((audio.shape[0], samples), np.float32)
    kept = min(samples, audio.shape[1])
    fitted[:, :kept] = audio[:, :kept]
    if audio.shape[1] > samples:
        fade = min(fade, samples)
        fitted[:, samples - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return fitted


def resample_audio(audio: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """`audio` (float32 [channels, samples]) at `new_rate` Hz instead of `rate` Hz; sample 0 stays at time zero.

    The length becomes round(samples * new_rate / rate). Done by FFmpeg's libswresample.
    """
    if new_rate < 1:
        raise InputError(f"sample rate is {new_rate}, but must be above 0, for example 16000")
    samples = round(Fraction(audio.shape[1] * new_rate, rate))
    if rate == new_rate or not samples:
        return audio[:, :samples].copy()
    channels = []
    for channel in audio:
        resampler = av.AudioResampler(format="fltp", rate=new_rate)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channel[None]), format="fltp", layout="mono")
        frame.sample_rate = rate
        parts = resampler.resample(frame) + resampler.resample(None)
        channels.append(np.concatenate([np.zeros((1, 0), np.float32), *(part.to_ndarray() for part in parts)], axis=1))
    return fit_audio(np.concatenate(channels), samples, fade=0)  # FFmpeg gives fewer where rates are far apart


def write_wav(path: str | PathLike[str], audio: np.ndarray, rate: int) -> None:
    """Writes float32 [channels, samples] in -1..1 as a .wav of 16 bits."""
    samples = np.rint(audio * 32768).clip(-32768, 32767).astype("<i2")  # readers divide by 32768
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(audio))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.ascontiguousarray(samples.T).tobytes())
