"""When things happen in a scene: one clock that pictures and sound both read."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
MIN_FRAMES = 6
MIN_SECONDS = 0.4
MIN_GAP_FRAMES = 4
MIN_GAP_SECONDS = 0.2
QUIET_END_SECONDS = 0.06
MAX_EVENTS = 4
KNOT_SECONDS = 0.3


@dataclass(frozen=True)
class Timeline:
    """The moments of one clip.

    Frame j shows the state at time j / fps, so an event at time t is visible from the first frame with j / fps >= t and
    audible from the first sample at or after t.

    frames: number of frames T.    fps: frames per second.
    events: event times in seconds, rising; empty for continuous effects.
    strengths: how strong each event is, in (0, 1]; both the size of the change and the loudness follow it.
    knots: intensities at equally spaced times, smoothly interpolated; empty for event effects.
    """

    frames: int
    fps: Fraction
    events: tuple[float, ...] = ()
    strengths: tuple[float, ...] = ()
    knots: tuple[float, ...] = ()

    @property
    def seconds(self) -> float:
        return float(self.frames / self.fps)

    @property
    def samples(self) -> int:
        return round(self.frames / self.fps * SAMPLE_RATE)

    @property
    def frame_times(self) -> NDArray[np.float64]:
        return np.arange(self.frames) / float(self.fps)

    @property
    def sample_times(self) -> NDArray[np.float64]:
        return np.arange(self.samples) / SAMPLE_RATE

    def pulse(self, time: float, tau: float) -> float:
        """What is left at `time` of the strongest event so far, each decaying as strength * exp(-elapsed / tau)."""
        pairs = zip(self.events, self.strengths, strict=True)
        return max((float(s * np.exp((t - time) / tau)) for t, s in pairs if t <= time), default=0.0)

    def intensity(self, times: NDArray[np.float64]) -> NDArray[np.float32]:
        """Intensity of a continuous effect at `times` (seconds), in [0, 1]: zero at the start, smooth between knots."""
        knots = np.asarray(self.knots)
        place = np.clip(times / self.seconds, 0, 1) * (len(knots) - 1)
        left = np.minimum(place.astype(int), len(knots) - 2)
        mix = (1 - np.cos(np.pi * (place - left))) / 2
        return (knots[left] * (1 - mix) + knots[left + 1] * mix).astype(np.float32)


def draw_events(rng: np.random.Generator, frames: int, fps: Fraction) -> tuple[float, ...]:
    """Random event times in seconds, uniform over all sets with the wanted gaps: no time tells another."""
    first = 2 / float(fps)
    last = min((frames - 1) / float(fps), frames / float(fps) - QUIET_END_SECONDS)
    gap = max(MIN_GAP_FRAMES / float(fps), MIN_GAP_SECONDS) + 1e-6
    room = last - first
    count = int(rng.integers(1, min(MAX_EVENTS, 1 + int(room / gap)) + 1))
    free = np.sort(rng.uniform(0, room - (count - 1) * gap, count))
    return tuple(float(first + time + index * gap) for index, time in enumerate(free))


def draw_strengths(rng: np.random.Generator, events: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(s) for s in rng.uniform(0.7, 1.0, len(events)))


def draw_knots(rng: np.random.Generator, frames: int, fps: Fraction) -> tuple[float, ...]:
    """Knots of an intensity curve that starts at zero and uses nearly the whole range."""
    count = max(3, round(float(frames / fps) / KNOT_SECONDS) + 1)
    values = np.cumsum(rng.uniform(0.3, 0.7, count - 1)) + rng.random()
    values = values % 1  # even over [0, 1], each at least 0.3 from the one before
    values = (values - values.min()) / (np.ptp(values) + 1e-9) * rng.uniform(0.85, 1.0)
    return (0.0, *(float(v) for v in values))
