"""Solid things that hit: a bouncing ball and a hammer."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import drawing, sounds
from ..arrays import Array, Sound
from ..timeline import Timeline
from .base import Effect, per_event
from .materials import COLOURS, MATERIALS, STUFF, knock, size_word

GLOSS = {"rubber": 0.2, "wooden": 0.1, "glass": 0.9, "metal": 1.0}
PITCH = {"rubber": 30.0, "wooden": 45.0, "glass": 40.0, "metal": 28.0}  # Hz of a ball of the unit radius
THUMP = 125.0  # Hz of the table under a hammer
HEADS = {
    # dark and bright side of a hammer's head
    "wooden": ((0.5, 0.3, 0.13), (0.72, 0.48, 0.25)),
    "metal": ((0.3, 0.32, 0.36), (0.75, 0.78, 0.83)),
}


@dataclass(frozen=True)
class Ball(Effect):
    """A ball falls in from above and bounces; the ground jolts at every contact. Pitch falls with size."""

    name: ClassVar[str] = "ball"
    material: str
    colour: str
    radius: float
    ground: float
    places: tuple[float, ...]
    leave: float
    gravity: float

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Ball:
        return cls(
            material=str(rng.choice(list(MATERIALS))),
            colour=str(rng.choice(list(COLOURS))),
            radius=float(rng.uniform(0.1, 0.15)),
            ground=float(rng.uniform(0.84, 0.9)),
            places=per_event(rng, 0.42, 0.58, events),
            leave=float(rng.uniform(0.42, 0.58)),
            gravity=float(rng.uniform(12, 16)),
        )

    def words(self) -> dict[str, str]:
        size = size_word(self.radius, 0.1, 0.15)
        return {"material": self.material, "stuff": STUFF[self.material], "colour": self.colour, "size": size}

    def _state(self, time: float, timeline: Timeline, drop: float) -> tuple[float, float]:
        """Height above the ground and place across; `drop` is the height at which the ball is out of sight."""
        events = timeline.events
        passed = bisect_right(events, time)
        if passed == 0:
            before = events[0] - time
            speed = max(np.sqrt(2 * self.gravity * drop), drop / events[0] + self.gravity * events[0] / 2)
            rising = before > speed / self.gravity  # before the top of the arc: still waiting out of sight
            return (drop if rising else speed * before - self.gravity * before**2 / 2), self.places[0]
        start, place = events[passed - 1], self.places[passed - 1]
        if passed < len(events):
            end, target = events[passed], self.places[passed]
        else:
            end, target = max(start + 0.45, timeline.seconds + 0.1), self.leave
        height = self.gravity / 2 * (time - start) * (end - time)
        return height, place + (target - place) * (time - start) / (end - start)

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        height, width = picture.shape[:2]
        unit = min(height, width)
        jolt = timeline.pulse(time, 0.17)
        frame = drawing.warp(picture, 1 + 0.03 * jolt, (0.045 * unit * jolt, 0))
        drawing.blend(frame, (1, 1, 0.92), 0.2 * jolt)
        ground, radius = self.ground * height, self.radius * unit
        drop = (ground + radius) / unit
        above, place = self._state(time, timeline, drop)
        x = place * width
        drawing.glow(frame, (ground, x), radius * (0.7 + above), (0, 0, 0), 0.5 / (1 + 12 * above))
        for start, strength, spot in zip(timeline.events, timeline.strengths, self.places, strict=True):
            elapsed = time - start
            if 0 <= elapsed < 0.4:
                fade = strength * np.exp(-elapsed / 0.11)
                drawing.glow(frame, (ground, spot * width), (0.22 + 0.5 * elapsed) * unit, (1, 1, 0.9), 0.9 * fade)
        squash = 1 - 0.35 * timeline.pulse(time, 0.04)
        centre = (ground - radius * squash - above * unit, x)
        drawing.ball(frame, centre, radius, COLOURS[self.colour], GLOSS[self.material], squash)
        return frame

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        pitch = PITCH[self.material] / (1.2 * self.radius - 0.05)
        bodies = []
        for _ in timeline.events:
            body = sounds.unit(knock(self.material, pitch * rng.uniform(0.98, 1.02)))
            thud = sounds.burst(rng, 0.35, 0.012, 150, 3000)
            bodies.append(body + 0.2 * thud)
        return sounds.master(rng, sounds.strike(timeline, bodies), 80, 900)


@dataclass(frozen=True)
class Hammer(Effect):
    """A hammer swings in from the side; each blow shakes the whole picture, strikes sparks and thumps the table."""

    name: ClassVar[str] = "hammer"
    material: str
    side: str
    pitch: float
    level: float
    size: float

    @classmethod
    def draw(cls, rng: np.random.Generator, events: int) -> Hammer:
        return cls(
            material=str(rng.choice(["wooden", "metal"])),
            side=str(rng.choice(["left", "right"])),
            pitch=float(rng.uniform(0.8, 1.25)),
            level=float(rng.uniform(0.6, 0.68)),
            size=float(rng.uniform(0.12, 0.14)),
        )

    def words(self) -> dict[str, str]:
        return {"material": self.material, "stuff": STUFF[self.material], "side": self.side}

    def _raised(self, time: float, timeline: Timeline) -> float:
        """How far the hammer is raised: 0 is the blow, 1 is out of sight."""
        raised = 1.0
        for event in timeline.events:
            if time < event:
                raised = min(raised, ((event - time) / 0.15) ** 1.5)
            else:
                raised = min(raised, drawing.smoothstep((time - event - 0.02) / 0.28))
        return raised

    def paint(self, picture: Array, time: float, timeline: Timeline) -> Array:
        height, width = picture.shape[:2]
        unit = min(height, width)
        jolt = timeline.pulse(time, 0.17)
        across = -1 if self.side == "left" else 1
        frame = drawing.warp(picture, 1 + 0.02 * jolt, (0.055 * unit * jolt, -across * 0.02 * unit * jolt))
        drawing.blend(frame, (1, 0.5, 0.15), 0.35 * jolt)
        raised = self._raised(time, timeline)
        edge = 0.0 if self.side == "left" else float(width)
        if raised < 1:
            length = 0.5 * unit
            pivot = (self.level * height, edge + across * 0.12 * unit)
            angle = 1.75 * raised + 0.12
            toward = (-np.sin(angle), -across * np.cos(angle))
            head = (pivot[0] + length * toward[0], pivot[1] + length * toward[1])
            normal = (toward[1], -toward[0])
            half, thick = self.size * unit, 0.07 * unit
            one, two = ((head[0] + s * half * normal[0], head[1] + s * half * normal[1]) for s in (-1, 1))
            face, bright = HEADS[self.material]
            drawing.bar(frame, pivot, head, 0.03 * unit, (0.25, 0.14, 0.06))
            drawing.bar(frame, pivot, head, 0.02 * unit, (0.62, 0.4, 0.2))
            drawing.bar(frame, one, two, thick + 0.01 * unit, (0.08, 0.08, 0.08))
            drawing.bar(frame, one, two, thick, face)
            drawing.bar(frame, one, two, 0.45 * thick, bright)
        spot = (self.level * height + 0.05 * unit, edge - across * 0.4 * unit)
        flash = timeline.pulse(time, 0.11)
        if flash > 0.02:
            drawing.glow(frame, spot, 0.26 * unit, (1, 0.75, 0.3), flash)
        return frame

    def sound(self, rng: np.random.Generator, timeline: Timeline) -> Sound:
        base = 300 * self.pitch if self.material == "wooden" else 620 * self.pitch
        table = sounds.partials(0.35, [THUMP, 2 * THUMP], [1, 0.4], [0.06, 0.03])
        bodies = []
        for _ in timeline.events:
            body = sounds.unit(knock(self.material, base * rng.uniform(0.985, 1.015)))
            clack = sounds.burst(rng, 0.35, 0.02, 800, 6000)
            bodies.append(0.6 * body + table + 0.6 * clack)
        return sounds.master(rng, sounds.strike(timeline, bodies), 100, 600)
