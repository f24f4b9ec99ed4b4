"""Water: drops that make rings, and rain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import drawing, sounds
from ..arrays import Array, Sound
from ..timeline import Timeline
from .base import Effect, per_event

RING_SECONDS = 0.6
# Of rain, in shorter sides of the picture: how far it drifts sideways as it falls, the distance of lanes, that of
# streaks in a lane, and its speed in a second.
SLANT, LANE, SPACING, FALL = 0.25, 1 / 16, 1 / 8, 1.95


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
            pitch=float(rng.uniform(700, 1300)),
        )

    def words(self) -> dict[str, str]:
        return {"pitch": ("deep", "soft", "bright")[min(2, int((self.pitch - 700) / 600 * 3))]}

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
        pixels += (np.array([0.9, 0.97, 1.0], np.float32) - pixels) * (np.float32(0.85 * fade) * crest)[:, None]
        pixels += (np.array([0.0, 0.08, 0.2], np.float32) - pixels) * (np.float32(0.65 * fade) * trough)[:, None]
        view[row, column] = pixels

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        bodies = []
        for _ in timeline.events:
            pitch = self.pitch * rng.uniform(0.95, 1.05)
            blip = sounds.glide(0.25, pitch, 2.8 * pitch, 0.09)
            bodies.append(blip + 0.25 * sounds.burst(rng, 0.25, 0.006, 800, 6000))
        return sounds.master(rng, sounds.strike(timeline, bodies), 400, 3000)


@dataclass(frozen=True)
class Rain(Effect):
    """Rain whose density comes and goes: streaks and mist in sight, hiss in sound.

    Streaks fall side by side in lanes, one behind the other; the denser the rain, the more of them are there.
    """

    name: ClassVar[str] = "rain"
    continuous: ClassVar[bool] = True
    density: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Rain:
        return cls(density=float(rng.uniform(0.6, 1.0)), seed=int(rng.integers(2**31)))

    def words(self) -> dict[str, str]:
        return {"density": ("fine", "steady", "heavy")[min(2, int((self.density - 0.6) / 0.4 * 3))]}

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        height, width = picture.shape[:2]
        unit = min(height, width)
        level = float(timeline.intensity(np.array([time]))[0])
        frame = picture.copy()
        drawing.blend(frame, (0.3, 0.36, 0.42), 0.6 * level)
        rows = np.arange(height, dtype=np.float32)[:, None] / np.float32(unit)
        columns = np.arange(width, dtype=np.float32)[None, :] / np.float32(unit)
        across = (columns - SLANT * rows) / LANE
        lane = np.floor(across).astype(int)
        down = (rows - FALL * time) / SPACING + 0.5 * (lane % 2)
        streak = np.floor(down).astype(int)
        chances = np.random.default_rng(self.seed).random((61, 67), np.float32)  # of lanes and streaks, then again
        missing = chances[lane % 61, streak % 67]
        side, along = across - lane - 0.5, down - streak
        shape = np.exp(-((side / 0.2) ** 2)) * np.clip(np.minimum(along / 0.7, (1 - along) / 0.15), 0, 1)
        drawing.blend(frame, (0.95, 0.97, 1.0), shape * np.clip(6 * (self.density * level - missing), 0, 0.9))
        return frame

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        level = timeline.intensity(timeline.sample_times)
        low = 700 + 3200 * (1 - self.density)
        hiss = sounds.noise(rng, timeline.samples, low, 7500)
        return sounds.master(rng, sounds.swell(hiss, level), 300, 1500)
