"""What steps, samplers and guidance do to the bundled model's clips: grain, sharpness, burnt pixels, sync.

    python tests/benchmarks/sampling.py --json docs/logs/sampling.json

Every row makes the same clips (picture, prompt and noise) with other settings; rows that the JSON has already are not
made again. --sheets writes a picture of each row as well: a clip a line, its first, second, calmest, busiest and last
frame. On a machine that does other work, set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

import jointdit
from jointdit import JointDiTPipeline
from jointdit.diffusion.schedules import NoiseClock
from jointdit.evaluate.generated import autoencoded, draw_tasks
from jointdit.evaluate.matching import match_events
from jointdit.evaluate.seen import level
from jointdit.evaluate.sync import CONTINUOUS, correlation, observe
from jointdit.media import Clip, read_image
from jointdit.media.files import whole_file

SEED = 30_000  # of scenes and of noise
EFFECTS = ("lightning", "hammer", "heartbeat", "rain", "drops", "bell", "fireworks")
STEPS = (4, 8, 13, 25, 50)
BLUR = 1.0  # pixels; finer than this is detail or grain


@dataclass(frozen=True)
class Row:
    """options: of `JointDiTPipeline.__call__`.    guidance: what is changed of the model's own.
    scheduler: as many steps on the noise levels of the model's scheduler, instead of on its own."""

    options: Mapping[str, Any] = field(default_factory=dict)
    guidance: Mapping[str, Any] = field(default_factory=dict)
    scheduler: int | None = None


ROWS = {
    **{f"steps {n}": Row({"steps": n}) for n in STEPS},
    **{f"scheduler's levels, steps {n}": Row(scheduler=n) for n in STEPS},
    **{f"{name}, steps 13": Row({"sampler": name}) for name in ("dpmpp_2m", "heun")},
    **{f"scheduler's levels, {name}, steps 13": Row({"sampler": name}, scheduler=13) for name in ("dpmpp_2m", "heun")},
    **{mode: Row(guidance={"mode": mode}) for mode in ("none", "cfg", "joint-cfg-star")},
    "cfg 1 to 3 and 3.5, rescaled 0": Row(guidance={
        "mode": "cfg", "video_scale_start": 1.0, "video_scale": 3.0, "audio_scale": 3.5, "video_rescale": 0.0
    }),
    **{f"joint scale {w:g}, rescaled {r:g}": Row(guidance={"joint_scale": w, "video_rescale": r})
       for w, r in [(w, r) for w in (0, 0.5, 1.5, 2.5, 4, 10) for r in (0, 1)] + [(4, 0.3), (4, 0.7)]},
    **{f"audio joint scale {w:g}": Row(guidance={"audio_joint_scale": w}) for w in (0, 1, 4, 10)},
}  # fmt: skip


def measure(clip: Clip, effect: str) -> dict[str, float]:
    """One clip. calm: the frame nearest to the first one, busy: the farthest.

    grain: fine detail that the first frame does not have, by its median, which is of where nothing is drawn, in grey
    levels.    sharpness: how much of the first frame's fine detail is there.    saturated: share of the pixels that are
    black or white in a channel.
    """
    grey = clip.frames.astype(np.float32).mean(-1)
    fine = grey - gaussian_filter(grey, (0, BLUR, BLUR))
    change = level(clip.frames)
    calm, busy = int(change[1:].argmin()) + 1, int(change.argmax())
    found = observe(clip, effect)
    return {
        "grain_calm": _spread(fine[calm] - fine[0]),
        "grain_busy": _spread(fine[busy] - fine[0]),
        "sharpness_calm": float((fine[calm] * fine[0]).sum() / (fine[0] ** 2).sum()),
        "saturated": float(((clip.frames <= 1) | (clip.frames >= 254)).any(-1).mean()),
        "change_busy": float(change[busy]),
        "motion": float(np.abs(np.diff(grey, axis=0)).mean()),
        "seen": len(found.seen),
        "heard": len(found.heard),
        "together": len(match_events(found.seen, found.heard, found.frame_seconds)),
        "correlation": correlation(found.level, found.loudness),
    }


def _spread(values: NDArray[np.float32]) -> float:
    """Standard deviation of the most common values, by their median."""
    return float(1.4826 * np.median(np.abs(values)))


def summary(clips: Sequence[Clip], effects: Sequence[str]) -> dict[str, float]:
    """Means over clips; of events, shares over all clips that have any; of rain, the correlation."""
    table = [measure(clip, effect) for clip, effect in zip(clips, effects, strict=True)]
    counts = ("seen", "heard", "together", "correlation")
    found = {name: float(np.mean([row[name] for row in table])) for name in table[0] if name not in counts}
    events = [row for row, effect in zip(table, effects, strict=True) if effect not in CONTINUOUS]
    seen, heard, together = (sum(row[name] for row in events) for name in counts[:3])
    found |= {"seen": seen, "heard": heard}
    found |= {"seen_heard": together / max(seen, 1), "heard_seen": together / max(heard, 1)}
    found["rain"] = float(np.mean([row["correlation"] for row in table if row not in events]))
    return {name: round(value, 4) for name, value in found.items()}


class Bench:
    """The clips that each row makes: the sample photo in lightning, and first pictures of scenes, the effects in
    turn."""

    def __init__(self, scenes: int = len(EFFECTS)) -> None:
        self.pipe = JointDiTPipeline.from_pretrained("tiny")
        tasks = draw_tasks(scenes, SEED, self.pipe.shape(), EFFECTS)
        sample = read_image(Path(jointdit.__file__).parent / "assets" / "sample.jpg")
        self.pictures = [sample, *(task.scene.picture for task in tasks)]
        self.prompts = ["lightning strikes", *(task.prompt for task in tasks)]
        self.effects = ["lightning", *(task.scene.effect for task in tasks)]
        self.truths = [task.truth for task in tasks]

    def scenes(self) -> list[Clip]:
        """The scenes themselves, through the autoencoders."""
        return [autoencoded(self.pipe, truth) for truth in self.truths]

    def clips(self, row: Row) -> list[Clip]:
        pipe, options = self.pipe, dict(row.options)
        if row.scheduler:
            clock = NoiseClock(pipe.video_scheduler, pipe.audio_scheduler)
            options["sigmas"] = clock.grid(row.scheduler).video_sigmas
        generators = [torch.Generator().manual_seed(SEED + number) for number in range(len(self.pictures))]
        guidance = pipe.guidance.changed(**row.guidance)
        return pipe(self.pictures, self.prompts, guidance=guidance, generator=generators, **options)


def sheet(clips: Sequence[Clip]) -> Image.Image:
    """A clip a line: its first, second, calmest, busiest and last frame."""
    lines = []
    for clip in clips:
        change = level(clip.frames)
        chosen = [0, 1, int(change[1:].argmin()) + 1, int(change.argmax()), len(change) - 1]
        lines.append(np.concatenate(clip.frames[chosen], 1))
    return Image.fromarray(np.concatenate(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    report = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"rows": {}}
    report |= {
        "command": f"python tests/benchmarks/sampling.py --json {arguments.json}",
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU",
    }
    bench = Bench()
    heads = False
    for name in ["scenes", *arguments.rows]:
        if name not in report["rows"]:
            clips = bench.scenes() if name == "scenes" else bench.clips(ROWS[name])
            report["rows"][name] = summary(clips, bench.effects[-len(clips) :])
            with whole_file(arguments.json) as partial:
                partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            if arguments.sheets:
                arguments.sheets.mkdir(parents=True, exist_ok=True)
                sheet(clips).save(arguments.sheets / f"{name}.png")
        row = report["rows"][name]
        if not heads:
            print(" " * 32, *(f"{head:>14}" for head in row))
            heads = True
        print(f"{name:32}", *(f"{value:14.3f}" for value in row.values()), flush=True)


if __name__ == "__main__":
    main()
