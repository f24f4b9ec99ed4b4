"""Makes many clips in one process and checks that memory and open files stay flat.

    python tests/benchmarks/soak.py --clips 200

Memory is compared between the first quarter, when everything has been used once, and the end. Exits with 1 where it
grew by more than 2%, or where a file stayed open. Linux.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch

from jointdit import JointDiTPipeline, SamplingSettings
from jointdit.media import read_clip, read_image

GROWTH = 0.02
SAMPLE = Path(__file__).parents[2] / "jointdit" / "assets" / "sample.jpg"


def memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipe, settings = JointDiTPipeline.from_pretrained("tiny"), SamplingSettings(steps=2)
    sizes, files = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mp4"
        for index in range(arguments.clips):
            generator = torch.Generator().manual_seed(index)
            pipe(read_image(SAMPLE), "rain", frames=8, settings=settings, generator=generator).save(path)
            clip = read_clip(path)
            pipe(video=clip, prompt="a bell", frames=8, settings=settings, generator=generator)
            sizes.append(memory())
            files.append(open_files())
    start = max(sizes[: max(1, len(sizes) // 4)])
    grown = sizes[-1] / start - 1
    print(f"{arguments.clips} clips: {start / 2**20:.0f} MiB, {grown:+.2%}; {files[0]} files open, at last {files[-1]}")
    return grown > GROWTH or files[-1] > files[0]


if __name__ == "__main__":
    sys.exit(main())
