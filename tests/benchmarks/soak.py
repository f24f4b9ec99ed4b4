"""Makes many clips in one process and checks that memory and open files stay flat.

    python tests/benchmarks/soak.py --clips 200 --json docs/logs/soak.json

Every clip goes the whole way, from files to a file, in one of several ways in turn: from a picture with each kind of
guidance and sampler, for a given video, to a given sound, two at once, as each kind of file. They are small and have
few steps. The most memory in use in the first quarter, when everything was used, is compared with that in the last.
Exits with 1 where it grew by 2% or more, or where a file stayed open. Linux.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from jointdit import Clip, JointCFG, JointDiTPipeline
from jointdit.media import read_audio, read_clip, read_image
from jointdit.media.animation import write_animation
from jointdit.media.files import write_json

GROWTH = 0.02
SAMPLE = Path(__file__).parents[2] / "jointdit" / "assets" / "sample.jpg"
SMALL: dict[str, Any] = {"frames": 4, "height": 64, "width": 64, "steps": 2}


def memory() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()  # garbage in cycles waits for a collection, and is no leak
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def ways(pipe: JointDiTPipeline, folder: Path) -> list[Callable[[torch.Generator], list[Clip]]]:
    """Ways to make clips. folder: has a video of its own, source.mp4."""

    def picture(mode: str, **options: Any) -> Callable[[torch.Generator], list[Clip]]:
        guidance = JointCFG(mode=mode)
        return lambda g: [pipe(read_image(SAMPLE), generator=g, guidance=guidance, **SMALL | options)]

    def video(g: torch.Generator) -> list[Clip]:
        return [pipe(video=read_clip(folder / "source.mp4"), prompt="a bell", generator=g, **SMALL)]

    def sound(g: torch.Generator) -> list[Clip]:
        return [pipe(read_image(SAMPLE), audio=read_audio(folder / "source.mp4"), generator=g, **SMALL)]

    def two(g: torch.Generator) -> list[Clip]:
        return pipe([read_image(SAMPLE)] * 2, ["rain", "thunder"], generator=g, preview=lambda frames: None, **SMALL)

    modes = ("none", "cfg", "joint-cfg", "joint-cfg-star")
    plain = [picture(mode, prompt=prompt) for mode, prompt in zip(modes, (None, "rain", "a clock", ""), strict=True)]
    return [*plain, picture("cfg", sampler="dpmpp_2m", negative_prompt="noise", fps="25/2"), video, sound, two]


def save(clip: Clip, path: Path) -> None:
    """Writes a clip, in place of an older one, and reads what it can of it."""
    if path.suffix == ".gif":
        return write_animation(path, clip.frames, clip.fps)
    clip.save(path)
    assert len(read_clip(path).frames) == len(clip.frames)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipe, sizes, files = JointDiTPipeline.from_pretrained("tiny"), [], []
    with tempfile.TemporaryDirectory() as folder:
        pipe(read_image(SAMPLE), "rain", **SMALL | {"frames": 8}).save(Path(folder, "source.mp4"))
        made, turns, suffixes = 0, ways(pipe, Path(folder)), (".mp4", ".webm", ".gif")
        while made < arguments.clips:
            for clip in turns[len(sizes) % len(turns)](torch.Generator().manual_seed(made)):
                save(clip, Path(folder, f"a{suffixes[made % len(suffixes)]}"))
                made += 1
            del clip
            sizes.append(memory())
            files.append(open_files())
    quarter = max(1, len(sizes) // 4)
    start, end = max(sizes[:quarter]), max(sizes[-quarter:])
    grown, opened = end / start - 1, max(files[-quarter:]) - max(files[:quarter])
    print(f"{made} clips: {start / 2**20:.0f} MiB, {grown:+.2%}; {opened:+d} open files")
    if arguments.json:
        report = {
            "command": f"python tests/benchmarks/soak.py --clips {arguments.clips}",
            "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU, 1 thread",
            "clips": made,
            "MiB in the first quarter": round(start / 2**20, 1),
            "MiB in the last quarter": round(end / 2**20, 1),
            "growth": round(grown, 4),
            "more open files": opened,
            "MiB": [round(size / 2**20) for size in sizes],
        }
        write_json(arguments.json, report)
    return grown >= GROWTH or opened > 0


if __name__ == "__main__":
    sys.exit(main())
