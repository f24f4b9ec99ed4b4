"""Clips longer than one window: sync at the seams and elsewhere, drift, evaluations and memory.

    python tests/benchmarks/long.py sync drift cost --json docs/logs/long.json

Each part takes the place of its own results in the file. On two cores sync takes about four minutes an effect, drift
six a picture.
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
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import laplace

from jointdit import Clip, JointDiTPipeline
from jointdit.evaluate.heard import events_heard, mean_loudness
from jointdit.evaluate.matching import match_events
from jointdit.latents import Windows
from jointdit.media import Piece, write_pieces
from jointdit.pipeline.windowed import OVERLAP, TOGETHER
from jointdit.synthetic.captions import draw_caption
from jointdit.synthetic.effects import REGISTRY
from jointdit.synthetic.textures import procedural_picture
from jointdit.synthetic.timeline import Timeline, draw_strengths

SUPPORT = Path(__file__).parents[1] / "support"
EFFECTS = ("hammer", "ball", "lightning", "heartbeat", "pendulum", "drops", "bell", "fireworks")
FPS, SIDE, WINDOW = Fraction(25, 2), 128, 20
NEAR = 2  # frames from the middle of a seam that count as at it
SHIFTS = np.arange(3, 17, 0.77)  # seconds by which the sound is turned round to find what chance would hit
SEED = 910_000_000
LENGTHS = (4.0, 60.0)  # seconds
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
    middles = np.array([(start + last + windows.shape.frames) / 2 for last, start in pairwise(starts)])
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


def drift(pipe: JointDiTPipeline, pictures: int) -> dict:
    """How far a clip from one picture is from it after 1, 2, 4 and 8 windows, by three ways to go on. Of the last
    window of each: colour, the distance of the mean colour; distance, of the frames; both in grey levels. sharpness:
    the mean of |Laplacian|, as a ratio to the picture's. loudness: dB of full scale."""
    overlap = round(WINDOW * OVERLAP)
    stride, rows = WINDOW - overlap, {}
    for number in range(pictures):
        effect = ("hammer", "bell", "rain")[number % 3]
        rng = np.random.default_rng([SEED, number])
        picture = procedural_picture(rng, SIDE, SIDE)
        caption = {"hammer": "a hammer strikes", "bell": "a bell rings", "rain": "heavy rain"}[effect]
        frames = WINDOW + 7 * stride
        for anchor in ("latest", "first"):
            made = pipe.long(picture, caption, frames=frames, anchor=anchor, generator=seeded(number)).read()
            rows.setdefault(f"overlap held, {anchor} picture", []).append(
                {n: state(made, picture, (n - 1) * stride) for n in (1, 2, 4, 8)}
            )
        last, parts = picture, []
        generator = seeded(number)
        for _ in range(8):
            parts.append(pipe(last, caption, generator=generator))
            last = parts[-1].frames[-1]
        rows.setdefault("naive, from the last frame", []).append(
            {n: state(parts[n - 1], picture, 0) for n in (1, 2, 4, 8)}
        )
        print(effect, {name: each[-1] for name, each in rows.items()}, flush=True)
    return {
        name: {
            str(n): {key: round(float(np.mean([row[n][key] for row in each])), 2) for key in each[0][n]}
            for n in each[0]
        }
        for name, each in rows.items()
    } | {"pictures": pictures}


def state(clip: Clip, picture: np.ndarray, start: int) -> dict[str, float]:
    """Of one window of a clip."""
    frames = clip.frames[start : start + WINDOW].astype(np.float32)
    first = picture.astype(np.float32)
    samples = [round(frame / FPS * clip.sample_rate) for frame in (start, start + WINDOW)]

    def sharp(frame: np.ndarray) -> float:
        return float(np.abs(laplace(frame.mean(2))).mean())

    return {
        "colour": float(np.abs(frames.mean((0, 1, 2)) - first.mean((0, 1))).mean()),
        "distance": float(np.abs(frames - first).mean()),
        "sharpness": float(np.mean([sharp(frame) for frame in frames])) / sharp(first),
        "loudness": mean_loudness(clip.audio[:, samples[0] : samples[1]]),
    }


def cost(seconds: float) -> dict:
    """Of a process that gives a video file of this length its sound, in one step: windows, evaluations of each expert
    for a second of the video, which rise with the steps, and peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "silent.mp4"
        frames = round(seconds * FPS)
        gradient = np.linspace(0, 255, SIDE, dtype=np.float32)[None, :, None]
        pieces = (
            Piece(np.broadcast_to((gradient + at) % 256, (SIDE, SIDE, 3)).astype(np.uint8)[None], SILENCE)
            for at in range(frames)
        )
        write_pieces(source, pieces, (SIDE, SIDE), FPS, 0, 16000)
        command = [sys.executable, "-c", MEASURED, str(source), str(Path(folder) / "sounding.mp4"), str(SUPPORT)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    video, audio, peak = (int(word) for word in done.stdout.split()[-3:])
    return {
        "windows": -(-(frames - WINDOW) // (WINDOW - round(WINDOW * OVERLAP))) + 1,
        "video evaluations a second": round(video / seconds, 3),
        "audio evaluations a second": round(audio / seconds, 3),
        "peak memory MiB": round(peak / 2**20, 1),
    }


MEASURED = """
import sys
sys.path.append(sys.argv[3])
from peak_memory import peak_memory
from jointdit.cli import main, models
found, load = {"video": 0, "audio": 0}, models.load_model

def counted(*arguments):
    pipe = load(*arguments)
    for name, frames in (("video", 20), ("audio", 1)):
        def add(module, inputs, output, name=name, frames=frames):
            found[name] += output.shape[0] // frames
        getattr(pipe, name + "_unet").conv_out.register_forward_hook(add)
    return pipe

from jointdit.cli import generate
generate.load_model = counted
words = ["--steps", "1", "--audio-substeps", "2", "--quiet", "--prompt", "rain"]
assert main(["generate", "--video", sys.argv[1], "-o", sys.argv[2], *words]) == 0
print(found["video"], found["audio"], peak_memory())
"""


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("sync", "drift", "cost"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--effects", nargs="+", default=EFFECTS)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--overlap", type=int, default=round(WINDOW * OVERLAP))
    parser.add_argument("--together", type=int, default=TOGETHER)
    parser.add_argument("--pictures", type=int, default=3)
    arguments = parser.parse_args()
    pipe = JointDiTPipeline.from_pretrained("tiny")
    options = arguments.effects, arguments.seconds, arguments.overlap, arguments.together
    run = {
        "sync": lambda: sync(pipe, *options),
        "drift": lambda: drift(pipe, arguments.pictures),
        "cost": lambda: {f"{seconds:g}": cost(seconds) for seconds in LENGTHS},
    }
    stored = arguments.json is not None and arguments.json.exists()
    found = json.loads(arguments.json.read_text()) if stored else {}
    for part in arguments.parts:
        found[part] = {
            "command": f"python tests/benchmarks/long.py {' '.join(sys.argv[1:])}",
            "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU",
            "results": run[part](),
        }
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
