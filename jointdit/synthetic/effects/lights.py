"""Lights and pulses: lightning, fireworks, a heartbeat, a siren."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from .. import drawing, sounds
from ..arrays import Array, Sound
from ..timeline import SAMPLE_RATE, Timeline
from .base import Effect, per_event
from .materials import COLOURS

HEARTBEATS = (90.0, 130.0)  # Hz, their lowest partial


@dataclass(frozen=True)
class Lightning(Effect):
    """The picture darkens; every stroke is a bolt and a flash with its thunder right above."""

    name: ClassVar[str] = "lightning"
    places: tuple[float, ...]
    bends: tuple[tuple[float, ...], ...]
    gloom: float
    rumble: float

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Lightning:
        return cls(
            places=per_event(rng, 0.35, 0.65, events),
            bends=tuple(per_event(rng, -0.08, 0.08, 7) for _ in range(events)),
            gloom=float(rng.uniform(0.35, 0.6)),
            rumble=float(rng.uniform(0.13, 0.26)),
        )

    def words(self) -> dict[str, str]:
        return {"darkness": "dark" if self.gloom > 0.475 else "dim"}

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        frame = picture.copy()
        height, width = picture.shape[:2]
        unit = min(height, width)
        drawing.blend(frame, (0.03, 0.05, 0.14), self.gloom * drawing.smoothstep(time / 0.4))
        drawing.blend(frame, (0.88, 0.93, 1.0), 0.85 * timeline.pulse(time, 0.15))
        for start, place, bends in zip(timeline.events, self.places, self.bends, strict=True):
            if not 0 <= (elapsed := time - start) < 0.3:
                continue
            fade = float(np.exp(-((elapsed / 0.16) ** 2)))
            across = place + np.concatenate([[0], np.cumsum(bends)])
            points = [(0.8 * height * i / len(bends) - 2, x * width) for i, x in enumerate(across)]
            for radius, colour, alpha in ((0.045, (0.45, 0.55, 1.0), 0.8), (0.018, (1, 1, 1), 1.0)):
                for one, two in pairwise(points):
                    drawing.bar(frame, one, two, radius * unit, colour, alpha * fade, soft=0.6 + radius * unit / 2)
        return frame

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        bodies = []
        for _ in timeline.events:
            crack = sounds.burst(rng, 1.2, 0.02, 300, 5000)
            roll = sounds.burst(rng, 1.2, self.rumble, 40, 400)
            wobble = 1 + 0.5 * sounds.noise(rng, len(roll), 3, 12)
            bodies.append(crack + 0.9 * roll * wobble)
        return sounds.master(rng, sounds.strike(timeline, bodies), 40, 300)


@dataclass(frozen=True)
class Fireworks(Effect):
    """A rocket climbs from below and bursts into sparks with a bang and a crackle."""

    name: ClassVar[str] = "fireworks"
    colour: str
    places: tuple[tuple[float, float], ...]
    sparks: int
    spread: float
    turn: float

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Fireworks:
        return cls(
            colour=str(rng.choice(list(COLOURS))),
            places=tuple((float(rng.uniform(0.33, 0.43)), float(rng.uniform(0.42, 0.58))) for _ in range(events)),
            sparks=2 * int(rng.integers(7, 10)),
            spread=float(rng.uniform(0.32, 0.4)),
            turn=float(rng.uniform(0, 0.2)),
        )

    def words(self) -> dict[str, str]:
        return {"colour": self.colour}

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        frame = picture.copy()
        height, width = picture.shape[:2]
        unit = min(height, width)
        drawing.blend(frame, (0.02, 0.02, 0.08), 0.4 * drawing.smoothstep(time / 0.4))
        colour = COLOURS[self.colour]
        drawing.blend(frame, [0.5 + 0.5 * c for c in colour], 0.6 * timeline.pulse(time, 0.15))
        for start, strength, (row, column) in zip(timeline.events, timeline.strengths, self.places, strict=True):
            elapsed, y, x = time - start, row * height, column * width
            climb = min(start, 0.35)
            if -climb < elapsed < 0:
                tip = y + (height * 1.05 - y) * (elapsed / climb) ** 2
                drawing.bar(frame, (tip, x), (tip + 0.12 * unit, x), 0.012 * unit, (1, 0.9, 0.6), soft=1.0)
            elif 0 <= elapsed < 0.7:
                drawing.glow(frame, (y, x), 0.18 * unit, (1, 1, 0.95), strength * np.exp(-elapsed / 0.13))
                reach = self.spread * strength * (1 - np.exp(-(elapsed + 0.05) / 0.14))
                angles = self.turn + 2 * np.pi * np.arange(self.sparks) / self.sparks
                far = reach * np.where(np.arange(self.sparks) % 2, 1.0, 0.65)[:, None] * np.linspace(0.65, 1, 5)
                rays = np.stack([far * np.sin(angles)[:, None] + 0.25 * elapsed**2, far * np.cos(angles)[:, None]], -1)
                fade = float(np.exp(-((elapsed / 0.38) ** 2)))
                drawing.dots(frame, rays.reshape(-1, 2) * unit + (y, x), 0.02 * unit, colour, fade)
                drawing.dots(frame, rays[:, -1] * unit + (y, x), 0.012 * unit, (1, 1, 0.9), fade)
        return frame

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        bodies = []
        for _ in timeline.events:
            bang = sounds.burst(rng, 0.8, 0.05, 150, 2500)
            crackle = sounds.burst(rng, 0.8, 0.2, 2500, 7500) * (rng.random(round(0.8 * SAMPLE_RATE)) < 0.03)
            bodies.append(bang + 0.3 * crackle.astype(np.float32))
        return sounds.master(rng, sounds.strike(timeline, bodies), 100, 1500)


@dataclass(frozen=True)
class Heartbeat(Effect):
    """The picture swells and blushes at every beat; a weaker second sound follows softly."""

    name: ClassVar[str] = "heartbeat"
    depth: float
    zoom: float
    pitch: float

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Heartbeat:
        return cls(
            depth=float(rng.uniform(0.45, 0.65)),
            zoom=float(rng.uniform(0.07, 0.11)),
            pitch=float(rng.uniform(*HEARTBEATS)),
        )

    def words(self) -> dict[str, str]:
        return {"pitch": ("deep", "low", "muffled")[int(np.digitize(self.pitch, np.linspace(*HEARTBEATS, 4)[1:3]))]}

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        beat = timeline.pulse(time, 0.15)
        if beat < 0.005:
            return picture
        frame = drawing.warp(picture, 1 + self.zoom * beat)
        height, width = picture.shape[:2]
        rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
        columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :] ** 2
        edge = np.clip(0.45 + 0.4 * (rows + columns), 0, 1.2)
        drawing.blend(frame, (0.8, 0.0, 0.05), edge * np.float32(self.depth * beat))
        return frame

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        partials = [self.pitch, 1.9 * self.pitch, 3.1 * self.pitch]
        lub = sounds.unit(sounds.partials(0.4, partials, [1, 0.5, 0.25], [0.07, 0.04, 0.025]))
        time = sounds.clock(0.4)
        # The second sound swells instead of starting at once, so that only the first is an onset.
        dub = np.sin(2 * np.pi * 1.35 * self.pitch * time) * np.exp(-(((time - 0.17) / 0.03) ** 2))
        beat = lub + 0.25 * dub.astype(np.float32)
        bodies = [beat + 0.15 * sounds.burst(rng, 0.4, 0.01, 60, 500) for _ in timeline.events]
        return sounds.master(rng, sounds.strike(timeline, bodies), 40, 200)


@dataclass(frozen=True)
class Siren(Effect):
    """Two lamps of different colours swell, one on each side, while the siren rises in pitch and loudness."""

    name: ClassVar[str] = "siren"
    continuous: ClassVar[bool] = True
    colours: tuple[str, str]
    row: float
    low: float
    octaves: float

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Siren:
        pairs = (("blue", "red"), ("red", "yellow"), ("purple", "orange"), ("green", "blue"), ("red", "blue"))
        return cls(
            colours=pairs[rng.integers(len(pairs))],
            row=float(rng.uniform(0.2, 0.35)),
            low=float(rng.uniform(550, 850)),
            octaves=float(rng.uniform(0.9, 1.3)),
        )

    def words(self) -> dict[str, str]:
        return {"colour": self.colours[0], "second": self.colours[1], "pitch": "low" if self.low < 700 else "shrill"}

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        frame = picture.copy()
        height, width = picture.shape[:2]
        level = float(timeline.intensity(np.array([time]))[0])
        left, right = (np.array(COLOURS[c], np.float32) for c in self.colours)
        mix = np.clip(np.linspace(-1, 2, width, dtype=np.float32), 0, 1)[:, None]
        drawing.blend(frame, left + (right - left) * mix, 0.6 * level)
        for across, colour in ((0.2, left), (0.8, right)):
            lamp = (self.row * height, across * width)
            drawing.glow(frame, lamp, 0.2 * min(height, width), 0.5 + 0.5 * colour, 0.9 * level)
        return frame

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        level = timeline.intensity(timeline.sample_times)
        phase = 2 * np.pi * np.cumsum(self.low * 2 ** (self.octaves * level.astype(np.float64))) / SAMPLE_RATE
        tone = np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.25 * np.sin(3 * phase)
        return sounds.master(rng, sounds.swell(tone.astype(np.float32), level), 200, 1000)
