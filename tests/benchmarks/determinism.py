"""How far a seed fixes a clip: the same bytes where the batch and the threads are the same, and what differs otherwise.

    python tests/benchmarks/determinism.py --json docs/logs/determinism.json

The bundled model makes a clip of the bundled picture for each seed, twice in the same way, beside another picture in a
batch, and with another number of threads. Exits with 1 where the same way gives other bytes.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jointdit import Clip, JointDiTPipeline
from jointdit.media import read_image
from jointdit.media.files import write_json

SAMPLE = Path(__file__).parents[2] / "jointdit" / "assets" / "sample.jpg"
PROMPT = "rain"


def differences(clips: list[Clip], others: list[Clip]) -> dict[str, Any]:
    """Over all clips: the share of the levels (pixels in each colour) that differ, in percent, the largest difference
    in levels of 255, and that of the sound's samples, whose full scale is 1."""
    levels = np.concatenate(
        [np.abs(one.frames.astype(int) - two.frames).ravel() for one, two in zip(clips, others, strict=True)]
    )
    samples = [np.abs(one.audio - two.audio).max() for one, two in zip(clips, others, strict=True)]
    return {
        "differing levels in %": round(100 * float((levels > 0).mean()), 5),
        "largest": int(levels.max()),
        "largest of the sound": float(f"{max(samples):.1e}"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2, help="the other number; 1 is the first")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    pipe, picture = JointDiTPipeline.from_pretrained("tiny"), read_image(SAMPLE)

    def alone(threads: int) -> list[Clip]:
        torch.set_num_threads(threads)
        return [
            pipe(picture, PROMPT, frames=arguments.frames, generator=torch.Generator().manual_seed(seed))
            for seed in range(arguments.seeds)
        ]

    def beside(seed: int) -> Clip:
        generators = [torch.Generator().manual_seed(number) for number in (seed, 1000 + seed)]
        pictures = [picture, picture[:, ::-1].copy()]
        return pipe(pictures, [PROMPT, "a bell"], frames=arguments.frames, generator=generators)[0]

    first = alone(1)
    rows = {
        "the same way": differences(first, alone(1)),
        "in a batch of 2": differences(first, [beside(seed) for seed in range(arguments.seeds)]),
        f"with {arguments.threads} threads": differences(first, alone(arguments.threads)),
    }
    for name, row in rows.items():
        print(f"{name}: {row}")
    if arguments.json:
        command = f"python tests/benchmarks/determinism.py --seeds {arguments.seeds} --frames {arguments.frames}"
        machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU"
        write_json(arguments.json, {"command": command, "machine": machine, "rows": rows})
    return any(rows["the same way"].values())


if __name__ == "__main__":
    sys.exit(main())
