"""Clips longer than one window: sync at the seams and elsewhere, memory, operations, and drift.

    python tests/benchmarks/long.py sync drift cost memory --json docs/logs/long.json

Each part takes the place of its own results in the file. sync takes about 25 minutes on two cores, drift as long, the
others 10.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import laplace

from jointdit import Clip, JointDiTPipeline
from jointdit.evaluate.heard import events_heard, mean_loudness
from jointdit.evaluate.matching import match_events
from jointdit.latents import Windows
from jointdit.pipeline.long import OVERLAP, TOGETHER
from jointdit.synthetic.captions import draw_caption
from jointdit.synthetic.effects import REGISTRY
from jointdit.synthetic.textures import procedural_picture
from jointdit.synthetic.timeline import Timeline, draw_strengths

EFFECTS = ("hammer", "ball", "lightning", "heartbeat", "pendulum", "drops", "bell", "fireworks")
FPS, SIDE, WINDOW = Fraction(25, 2), 128, 20
NEAR = 2  # frames from the middle of a seam that count as at it
SHIFTS = np.arange(3, 17, 0.77)  # seconds by which the sound is turned round to find what chance would hit
SEED = 910_000_000
SILENCE = np.zeros((1, 0), np.float32)


@dataclass(frozen=True)
class LongScene:
    """A video of any length in which something happens all the time. events: seconds, rising."""

    clip: Clip
    caption: str
    events: np.ndarray


def long_scene(effect: str, frames: int, seed: int) -> LongScene:
    """A synthetic scene whose events go on through all its frames."""
    choice, times, look = (np.random.default_rng([seed, number]) for number in range(3))
    picture = procedural_picture(choice, SIDE, SIDE)
    seconds = float(frames / FPS)
    events, now = [], 0.2
    while now < seconds - 0.15:
        events.append(now)
        now += 0.4 + times.exponential(0.3)
    timeline = Timeline(frames, FPS, tuple(events), draw_strengths(times, events))
    painter = REGISTRY[effect].draw(look, len(events))
    clip = Clip(painter.render(picture, timeline), FPS, SILENCE, 16000)
    return LongScene(clip, draw_caption(look, effect, painter.words()), np.array(events))


def seam_places(windows: Windows, together: int) -> dict[str, np.ndarray]:
    """Frames in the middle of the overlaps, blended or held, and those far from any."""
    starts = [start.frame for start in windows.starts]
    middles = np.array([(start + last + windows.shape.frames) / 2 for last, start in zip(starts, starts[1:])])
    held = np.arange(1, len(starts)) % together == 0
    return {"blended": middles[~held], "held": middles[held]}


def sync(pipe: JointDiTPipeline, effects: Sequence[str], seconds: float, overlap: int, together: int) -> dict:
    """Share of the events that are heard within one frame, at seams, elsewhere and over all; and that of the same video
    in single windows. Corrected: for what turning the sound round would hit."""
    frames = round(seconds * FPS)
    rows: dict[str, list[tuple[int, float, int]]] = {}
    for number, effect in enumerate(effects):
        scene = long_scene(effect, frames, SEED + number)
        made = pipe.long(
            video=scene.clip, prompt=scene.caption, overlap=overlap, together=together, generator=seeded(number)
        ).read()
        heard = events_heard(made.audio, made.sample_rate)
        plan = pipe.layout.windows(pipe.shape(frames), WINDOW, overlap)
        at = scene.events * float(FPS)
        near = np.zeros(len(at), bool)
        for name, middles in seam_places(plan, together).items():
            mine = (np.abs(at[:, None] - middles[None]) <= NEAR).any(1)
            rows.setdefault(f"{name} seams", []).append(hits(scene.events, heard, mine, seconds))
            near |= mine
        rows.setdefault("elsewhere", []).append(hits(scene.events, heard, ~near, seconds))
        rows.setdefault("whole", []).append(hits(scene.events, heard, np.ones_like(near), seconds))
        apart = []
        for start in range(0, frames - WINDOW + 1, WINDOW):
            part = replace(scene.clip, frames=scene.clip.frames[start : start + WINDOW])
            single = pipe(video=part, prompt=scene.caption, generator=seeded(1000 * number + start))
            apart.append(events_heard(single.audio, single.sample_rate) + start / float(FPS))
        inside = scene.events < (frames // WINDOW * WINDOW - 1) / float(FPS)
        rows.setdefault("single windows", []).append(hits(scene.events, np.concatenate(apart), inside, seconds))
        print(effect, {name: each[-1] for name, each in rows.items()}, flush=True)
    return {name: summary(each) for name, each in rows.items()}


def hits(events: np.ndarray, heard: np.ndarray, which: np.ndarray, seconds: float) -> tuple[int, float, int]:
    """Of the events `which`: how many are heard, how many would be by chance, and how many there are."""

    def found(sounds: np.ndarray) -> int:
        pairs = match_events(events, sounds, 1 / float(FPS))
        return int(which[pairs[:, 0]].sum())

    chance = np.mean([found(np.sort((heard + shift) % seconds)) for shift in SHIFTS])
    return found(heard), float(chance), int(which.sum())


def summary(rows: list[tuple[int, float, int]]) -> dict:
    hit, chance, count = (sum(column) for column in zip(*rows, strict=True))
    if not count:
        return {"events": 0}
    share, luck = hit / count, chance / count
    return {
        "events": count,
        "hits": round(share, 3),
        "chance": round(luck, 3),
        "corrected": round((share - luck) / (1 - luck), 3),
        "standard_error": round(float(np.sqrt(share * (1 - share) / count) / (1 - luck)), 3),
    }


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("sync", "drift", "cost", "memory"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--effects", nargs="+", default=EFFECTS)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--overlap", type=int, default=round(WINDOW * OVERLAP))
    parser.add_argument("--together", type=int, default=TOGETHER)
    arguments = parser.parse_args()
    pipe = JointDiTPipeline.from_pretrained("tiny")
    found = {}
    if "sync" in arguments.parts:
        found["sync"] = sync(pipe, arguments.effects, arguments.seconds, arguments.overlap, arguments.together)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
