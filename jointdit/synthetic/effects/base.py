"""What an effect is: random parameters, drawn once, and two renderings of one timeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Picture, Sound
from ..timeline import Timeline


@dataclass(frozen=True)
class Effect(ABC):
    """Base of all effects.

    Fields are the random parameters: positions relative to height and width, lengths relative to the shorter side,
    frequencies in Hz. Where each event has its own, a tuple holds one entry per event.
    """

    name: ClassVar[str]
    continuous: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Effect:
        """Random parameters for a clip with that many events."""

    @abstractmethod
    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        """The frame at `time` > 0 (seconds) as float32 [H, W, 3] in [0, 1]; `picture` must stay as it is."""

    @abstractmethod
    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        """The finished waveform, float32 [samples] at 16 kHz."""

    def words(self) -> dict[str, str]:
        """Names of the attributes that captions may tell, such as material or colour."""
        return {}

    def render(self, picture: Picture, timeline: Timeline) -> NDArray[np.uint8]:
        """All frames, uint8 [T, H, W, 3]; frame 0 is the picture itself."""
        still = picture.astype(np.float32) / 255
        frames = np.empty((timeline.frames, *picture.shape), np.uint8)
        frames[0] = picture
        for index, time in enumerate(timeline.frame_times[1:], start=1):
            frames[index] = np.clip(self.paint(still, time, timeline), 0, 1) * 255 + 0.5
        return frames


def per_event(rng: np.random.Generator, low: float, high: float, events: int) -> tuple[float, ...]:
    return tuple(float(v) for v in rng.uniform(low, high, events))
