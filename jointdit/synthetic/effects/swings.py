"""Things that swing: a pendulum between two stops, and a bell."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import drawing, sounds
from ..arrays import Array, Sound
from ..timeline import Timeline
from .base import Effect
from .materials import COLOURS, size_word

OUTSIDE = 1.3  # radians at which a pendulum is out of sight
BELL_METALS = {"golden": (1.0, 0.78, 0.2), "silver": (0.82, 0.85, 0.9), "copper": (0.85, 0.45, 0.25)}
WARM = (1.0, 0.88, 0.4)  # light of a bell


@dataclass(frozen=True)
class Pendulum(Effect):
    """A pendulum swings in and ticks against two stops in turn, nudging the picture to that side."""

    name: ClassVar[str] = "pendulum"
    colour: str
    radius: float
    swing: float
    direction: int
    pitch: float

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Pendulum:
        return cls(
            colour=str(rng.choice(list(COLOURS))),
            radius=float(rng.uniform(0.1, 0.14)),
            swing=float(rng.uniform(0.38, 0.45)),
            direction=int(rng.choice([-1, 1])),
            pitch=float(rng.uniform(2600, 3600)),
        )

    def words(self) -> dict[str, str]:
        return {"colour": self.colour, "size": size_word(self.radius, 0.1, 0.14)}

    def _angle(self, time: float, timeline: Timeline) -> float:
        """Radians from the vertical; each strike is at a stop, the next at the other one."""
        events = timeline.events
        passed = bisect_right(events, time)
        if passed == 0:
            waiting = max(0.0, (events[0] - time) / min(events[0], 0.4))
            return self.direction * (self.swing - (self.swing + OUTSIDE) * (1 - (1 - min(waiting, 1)) ** 1.3))
        last = passed == len(events)
        start, end = events[passed - 1], events[passed - 1] + 0.9 if last else events[passed]
        target = -OUTSIDE if last else -self.swing
        done = drawing.smoothstep((time - start) / (end - start))
        return self.direction * (-1) ** (passed - 1) * (self.swing + (target - self.swing) * done)

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        height, width = picture.shape[:2]
        unit = min(height, width)
        passed = bisect_right(timeline.events, time)
        side = self.direction * (-1) ** max(passed - 1, 0)
        jolt = timeline.pulse(time, 0.17)
        frame = drawing.warp(picture, 1 + 0.03 * jolt, (0, side * 0.045 * unit * jolt))
        beside = np.linspace(0, 1, width, dtype=np.float32)[None, :: -1 if side < 0 else 1] ** 2
        drawing.blend(frame, (0.6, 1, 0.65), np.broadcast_to((0.25 + 0.7 * beside) * np.float32(jolt), (height, width)))
        pivot, length = (-0.25 * unit, width / 2), 0.8 * unit
        angle = self._angle(time, timeline)
        reach = length if abs(angle) < 0.9 else length * (0.9 / abs(angle)) ** 2
        # far out, the bob is pulled up, so that it is out of sight on narrow and wide pictures alike
        bob = (pivot[0] + reach * np.cos(angle), pivot[1] + reach * np.sin(angle))
        if bob[0] > -2 * self.radius * unit:
            drawing.bar(frame, pivot, bob, 0.024 * unit, (0.1, 0.1, 0.1))
            drawing.bar(frame, pivot, bob, 0.014 * unit, (0.8, 0.75, 0.6))
            drawing.glow(frame, bob, 1.8 * self.radius * unit, (0.7, 1, 0.75), 0.8 * jolt)
            drawing.ball(frame, bob, self.radius * unit, COLOURS[self.colour], 0.8)
        return frame

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        partials = [self.pitch, 1.47 * self.pitch, 2.1 * self.pitch]
        tick = sounds.partials(0.1, partials, [1, 0.6, 0.3], [0.016, 0.01, 0.006])
        bodies = [tick + 0.4 * sounds.burst(rng, 0.1, 0.004, 2500, 7500) for _ in timeline.events]
        return sounds.master(rng, sounds.strike(timeline, bodies), 2000, 6000)


@dataclass(frozen=True)
class Bell(Effect):
    """A bell is lowered in from above; each stroke swings it and floods the picture with warm light."""

    name: ClassVar[str] = "bell"
    size: float
    place: float
    metal: str

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Bell:
        return cls(
            size=float(rng.uniform(0.27, 0.35)),
            place=float(rng.uniform(0.45, 0.55)),
            metal=str(rng.choice(list(BELL_METALS))),
        )

    def words(self) -> dict[str, str]:
        return {"colour": self.metal, "size": size_word(self.size, 0.27, 0.35)}

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        frame = picture.copy()
        height, width = picture.shape[:2]
        unit = min(height, width)
        lowered = drawing.smoothstep(time / min(timeline.events[0], 0.35))
        top = (-1.3 * self.size + (1.3 * self.size + 0.06) * lowered) * unit
        pivot = (top, self.place * width)
        stroke = timeline.pulse(time, 0.18)
        passed = bisect_right(timeline.events, time)
        angle = 0.4 * (-1) ** passed * timeline.pulse(time, 0.3)
        colour = np.array(BELL_METALS[self.metal])
        light = np.array(WARM)
        drawing.blend(frame, light, 0.3 * stroke)
        middle = (top + 0.6 * self.size * unit, self.place * width)
        drawing.glow(frame, middle, 0.34 * unit, light, 0.85 * stroke)
        self._bell(frame, pivot, angle, self.size * unit, colour)
        return frame

    @staticmethod
    def _bell(frame: Array, pivot: drawing.Point, angle: float, size: float, colour: Array) -> None:
        part = drawing.window(frame, pivot, 1.5 * size)
        if part is None:
            return
        view, rows, columns = part
        down = (rows * np.cos(angle) + columns * np.sin(angle)) / size
        across = (columns * np.cos(angle) - rows * np.sin(angle)) / size
        profile = 0.22 + 0.2 * np.clip(down, 0, 1) + 0.28 * np.clip(down, 0, 1) ** 6
        inside = np.minimum(profile - np.abs(across), np.minimum(down, 1 - down))
        clapper = 0.12 - np.hypot(down - 1.02, across)
        shade = np.clip(0.75 + 0.9 * np.exp(-(((across + 0.15) / 0.12) ** 2)) - 0.7 * np.abs(across), 0.15, 1.5)
        for depth, paint in (
            (np.maximum(clapper, inside + 0.04), np.full(3, 0.05)),
            (clapper - 0.03, 0.35 * colour),
            (inside, np.clip(shade[..., None] * colour, 0, 1)),
        ):
            view += (paint.astype(np.float32) - view) * np.clip(depth * size + 0.5, 0, 1)[..., None]

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        pitch = 135 / (1.25 * self.size - 0.1875)
        ratios, levels = (1.0, 2.0, 2.76, 4.07, 5.4), (1.0, 0.7, 0.8, 0.5, 0.35)
        taus = (0.3, 0.22, 0.18, 0.12, 0.08)
        stroke = sounds.partials(1.5, [pitch * r for r in ratios], levels, taus)
        bodies = [stroke + 0.5 * sounds.burst(rng, 1.5, 0.006, 1000, 7000) for _ in timeline.events]
        return sounds.master(rng, sounds.strike(timeline, bodies), 200, 1500)
