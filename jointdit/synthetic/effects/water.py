"""Water: drops that make rings, and rain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import drawing, sounds
from ..timeline import Timeline
from .base import Array, Effect, per_event

RING_SECONDS = 0.6


@dataclass(frozen=True)
class Drops(Effect):
    """Drops fall onto the picture as if it were a pond: a splash, spreading rings, and a blip that rises in pitch."""

    name: ClassVar[str] = "drops"
    rows: tuple[float, ...]
    columns: tuple[float, ...]
    speed: float
    pitch: float

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Drops:
        return cls(
            rows=per_event(rng, 0.5, 0.6, events),
            columns=per_event(rng, 0.43, 0.57, events),
            speed=float(rng.uniform(0.65, 0.8)),
            pitch=float(rng.uniform(550, 1300)),
        )

    def words(self) -> dict[str, str]:
        return {"pitch": ("deep", "soft", "bright")[min(2, int((self.pitch - 550) / 750 * 3))]}

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        height, width = picture.shape[:2]
        unit = min(height, width)
        frame = picture.copy()
        drawing.blend(frame, (0.35, 0.7, 1.0), 0.45 * timeline.pulse(time, 0.15))
        drops = zip(timeline.events, timeline.strengths, self.rows, self.columns, strict=True)
        for start, strength, row, column in drops:
            elapsed, y, x = time - start, row * height, column * width
            if elapsed < 0:
                tip = y + (y + 0.1 * unit) * elapsed / min(0.15, start)
                drawing.bar(frame, (tip - 0.08 * unit, x), (tip, x), 0.03 * unit, (0.85, 0.95, 1.0))
            elif elapsed < RING_SECONDS:
                fade = strength * (np.exp(-elapsed / 0.22) - np.exp(-RING_SECONDS / 0.22))
                self._ring(frame, (y, x), (0.18 + self.speed * elapsed) * unit, 0.06 * unit, fade)
                splash = strength * np.exp(-elapsed / 0.14)
                drawing.glow(frame, (y, x), (0.13 + 0.2 * elapsed) * unit, (0.95, 0.98, 1), splash)
        return frame

    @staticmethod
    def _ring(frame: Array, centre: drawing.Point, radius: float, thickness: float, fade: float) -> None:
        """A circular wave: pixels pushed outward along it, a light crest and a dark trough inside."""
        if (part := drawing.window(frame, centre, radius + 2.5 * thickness)) is None:
            return
        view, rows, columns = part
        distance = np.sqrt(rows * rows + columns * columns)
        phase = (distance - np.float32(radius)) / np.float32(thickness)
        near = np.flatnonzero(np.abs(phase) < 2.5)
        if not len(near):
            return
        phase = phase.ravel()[near]
        row, column = np.divmod(near, view.shape[1])
        push = np.float32(0.9 * thickness * fade) * np.exp(-(phase**2)) / (distance.ravel()[near] + 1)
        down = np.rint(row - push * rows.ravel()[row]).astype(int).clip(0, view.shape[0] - 1)
        across = np.rint(column - push * columns.ravel()[column]).astype(int).clip(0, view.shape[1] - 1)
        crest, trough = np.exp(-(phase**2)), np.exp(-((phase + 1.4) ** 2))
        pixels = view[down, across]
        pixels += (np.float32([0.9, 0.97, 1.0]) - pixels) * (np.float32(0.85 * fade) * crest)[:, None]
        pixels += (np.float32([0.0, 0.08, 0.2]) - pixels) * (np.float32(0.65 * fade) * trough)[:, None]
        view[row, column] = pixels

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Array:
        bodies = []
        for _ in timeline.events:
            pitch = self.pitch * rng.uniform(0.95, 1.05)
            blip = sounds.glide(0.25, pitch, 2.2 * pitch, 0.06)
            bodies.append(blip + 0.4 * sounds.burst(rng, 0.25, 0.006, 800, 6000))
        return sounds.master(rng, sounds.strike(timeline, bodies), 400, 3000)


@dataclass(frozen=True)
class Rain(Effect):
    """Rain whose density comes and goes: streaks and mist in sight, hiss in sound."""

    name: ClassVar[str] = "rain"
    continuous: ClassVar[bool] = True
    drops: int
    slant: float
    speed: float
    length: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Rain:
        return cls(
            drops=int(rng.integers(160, 320)),
            slant=float(rng.uniform(-0.35, 0.35)),
            speed=float(rng.uniform(1.3, 2.0)),
            length=float(rng.uniform(0.12, 0.18)),
            seed=int(rng.integers(2**31)),
        )

    def words(self) -> dict[str, str]:
        return {"density": "fine" if self.drops < 215 else "heavy" if self.drops > 265 else "steady"}

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        height, width = picture.shape[:2]
        unit = min(height, width)
        level = float(timeline.intensity(np.array([time]))[0])
        frame = picture.copy()
        drawing.blend(frame, (0.3, 0.36, 0.42), 0.7 * level)
        draws = np.random.default_rng(self.seed).random((3, round(self.drops * height * width / unit**2)))
        rows, columns = draws[:2, draws[2] < level]
        steps = np.arange(max(3, round(self.length * unit)))
        y = (rows * 1.3 * height + self.speed * unit * time) % (1.3 * height) - 0.2 * height
        y = y[:, None] + steps
        x = columns[:, None] * width + self.slant * y
        mask = np.zeros((height, width), np.float32)
        row, left = y.astype(int), np.floor(x).astype(int)
        mix = (x - left).astype(np.float32)
        seen = (y >= 0) & (y < height)
        for column, weight in ((left, 1 - mix), (left + 1, mix)):
            mask[row[seen], column[seen] % width] += weight[seen]
        drawing.blend(frame, (0.92, 0.96, 1.0), np.minimum(mask, 1) * np.float32(0.75))
        return frame

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Array:
        level = timeline.intensity(timeline.sample_times)
        low = 700 + 8 * (320 - self.drops)
        hiss = sounds.noise(rng, timeline.samples, low, 7500)
        return sounds.master(rng, sounds.swell(hiss, level), 300, 1500)
