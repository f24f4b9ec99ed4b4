"""Sound synthesis at 16 kHz: short bodies with a sharp attack, and noises. All arrays are float32 [samples]."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Sound
from .timeline import SAMPLE_RATE, Timeline

PEAK = 0.5
AMBIENCE = 10 ** (-50 / 20)
FADE_SECONDS = 0.005
RELEASE_SECONDS = 0.05


def clock(seconds: float) -> NDArray[np.float64]:
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def noise(rng: np.random.Generator, samples: int, low: float, high: float) -> Sound:
    """Noise of unit peak between two frequencies in Hz, with slopes of a third of an octave."""
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    octaves = np.log2(np.maximum(frequencies, 1.0))
    band = 1 / (1 + np.exp(-9 * (octaves - np.log2(low)))) / (1 + np.exp(9 * (octaves - np.log2(high))))
    band[0] = 0
    sound = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * band, samples)
    return (sound / (np.abs(sound).max() + 1e-12)).astype(np.float32)


def burst(rng: np.random.Generator, seconds: float, tau: float, low: float, high: float) -> Sound:
    """Band noise that starts at once and decays with time constant `tau` (seconds)."""
    time = clock(seconds)
    return (noise(rng, len(time), low, high) * np.exp(-time / tau)).astype(np.float32)


def partials(seconds: float, frequencies: Sequence[float], levels: Sequence[float], taus: Sequence[float]) -> Sound:
    """A struck body: decaying sines that start together at phase zero. Frequencies above 7.6 kHz are left out."""
    time = clock(seconds)
    sound = sum(
        level * np.sin(2 * np.pi * f * time) * np.exp(-time / tau)
        for f, level, tau in zip(frequencies, levels, taus, strict=True)
        if f < 7600
    )
    return np.asarray(sound, np.float32)


def glide(seconds: float, start: float, end: float, tau: float) -> Sound:
    """A sine whose pitch moves from `start` to `end` Hz over the decay."""
    time = clock(seconds)
    pitch = start + (end - start) * np.clip(time / seconds, 0, 1)
    return (np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE) * np.exp(-time / tau)).astype(np.float32)


def unit(sound: Array) -> Array:
    return sound / np.abs(sound).max()


def strike(timeline: Timeline, bodies: Sequence[Array]) -> Sound:
    """A track with body i, at unit peak times the event's strength, starting at event i and fading at its end."""
    track = np.zeros(timeline.samples, np.float32)
    for time, strength, body in zip(timeline.events, timeline.strengths, bodies, strict=True):
        start = int(np.ceil(time * SAMPLE_RATE))
        stop = min(len(track), start + len(body))
        fade = np.minimum(1, np.arange(len(body), 0, -1, dtype=np.float32) / (RELEASE_SECONDS * SAMPLE_RATE))
        track[start:stop] += (unit(body) * fade)[: stop - start] * np.float32(strength)
    return track


def swell(sound: Array, level: Array) -> Sound:
    """A lasting sound that follows an intensity in [0, 1] over 36 dB, silent at zero."""
    gain = (10 ** (-36 / 20 * (1 - level))) * np.minimum(1, 20 * level)
    return (sound * gain).astype(np.float32)


def master(rng: np.random.Generator, track: Array, low: float, high: float) -> Sound:
    """The finished track: a bed of band noise 50 dB below the peak, no mean, peak 0.5, 5 ms fades at both ends."""
    track = track + noise(rng, len(track), low, high) * np.float32(AMBIENCE * np.abs(track).max())
    track = track - track.mean()
    fade = round(FADE_SECONDS * SAMPLE_RATE)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    track[:fade] *= ramp
    track[-fade:] *= ramp[::-1]
    return (track * (PEAK / np.abs(track).max())).astype(np.float32)
