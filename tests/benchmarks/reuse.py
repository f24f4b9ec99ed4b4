"""What reuse between steps does to the bundled model's clips, and what it saves.

    python tests/benchmarks/reuse.py --json docs/logs/reuse.json

Every row makes the same clips (picture, prompt and noise) with another schedule and measures them as `sampling.py`
does. processor seconds: of sampling, for one clip, with one thread; exact seconds: those of exact sampling in the same
run. psnr: of the frames against those of the exact row, decibels. full: how many of the run's evaluations were.
`--rows` measures some rows anew and leaves the others in the log as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sampling import EFFECTS, SEED, Bench, Row, summary

from jointdit import Reuse
from jointdit.media import Clip
from jointdit.media.files import whole_file

ROWS = {
    "exact": None,
    "every 2": Reuse(2),
    "every 2, 1 layer": Reuse(2, layers=1),
    "every 3": Reuse(3),
    "every 4": Reuse(4),
    "moved 0.1": Reuse(1000, moved=0.1),
    "moved 0.2": Reuse(1000, moved=0.2),
}


def psnr(clips: Sequence[Clip], exact: Sequence[Clip]) -> float:
    """Mean over clips, decibels."""
    errors = [
        np.square(ours.frames.astype(float) - theirs.frames).mean() for ours, theirs in zip(clips, exact, strict=True)
    ]
    return float(np.mean([10 * np.log10(255**2 / error) for error in errors]))


COLUMNS = {
    "full evaluations": ("full", "{}"),
    "processor seconds of sampling": ("processor seconds", "{:.2f}"),
    "of exact sampling beside it": ("exact seconds", "{:.2f}"),
    "frames like the exact ones, dB": ("psnr", "{:.1f}"),
    "grain, calm frames": ("grain_calm", "{:.2f}"),
    "motion": ("motion", "{:.1f}"),
    "seen events that are heard": ("seen_heard", "{:.2f}"),
    "heard events that are seen": ("heard_seen", "{:.2f}"),
    "rain with its level": ("rain", "{:.2f}"),
}


def table(report: Mapping[str, Any]) -> str:
    """The rows of a log as a page has them."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, row in report["rows"].items():
        cells = ["" if row[key] is None else shown.format(row[key]) for key, shown in COLUMNS.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


class Watch:
    """Processor seconds of sampling, and how often the middle block of the video expert runs."""

    def __init__(self, bench: Bench) -> None:
        self.seconds, self.full, self.plain = 0.0, 0, bench.pipe.sample
        bench.pipe.sample = self.sample
        bench.pipe.video_unet.mid_block.register_forward_hook(self.count)

    def count(self, *_) -> None:
        self.full += 1

    def sample(self, *args, **options):
        start = time.process_time()
        latents = self.plain(*args, **options)
        self.seconds += time.process_time() - start
        return latents

    def reset(self) -> None:
        self.seconds, self.full = 0.0, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=2 * len(EFFECTS), help="clips of each row, and one more")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(arguments.json.read_text(encoding="utf-8"))["rows"] if arguments.json.exists() else {}
    bench = Bench(arguments.scenes)
    watch, exact, beside = Watch(bench), [], 0.0
    for name in dict.fromkeys(["exact", *arguments.rows]):
        watch.reset()
        clips = bench.clips(Row({"reuse": ROWS[name]}))
        exact, seconds = exact or clips, round(watch.seconds / len(clips), 2)
        beside = beside or seconds
        row = {
            "full": watch.full,
            "processor seconds": seconds,
            "exact seconds": None if clips is exact else beside,
            "psnr": None if clips is exact else round(psnr(clips, exact), 2),
        } | summary(clips, bench.effects)
        print(name, row, flush=True)
        if name in arguments.rows:
            rows[name] = row
        report = {
            "command": f"python tests/benchmarks/reuse.py --scenes {arguments.scenes} --json {arguments.json}",
            "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU, 1 thread",
            "clips": f"{len(exact)}, seed {SEED}",
            "rows": {name: rows[name] for name in ROWS if name in rows},
        }
        with whole_file(arguments.json) as partial:
            partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
