"""Kills `jointdit generate`, `cache` and `train` at random moments, and checks that nothing is lost or left behind.

    python tests/benchmarks/kills.py --kills 20

Each kill (SIGTERM and SIGKILL in turn) falls on a new moment of the work. After it, the old output must be whole, or
the new one; after the next whole run the folder must hold what an undisturbed run makes, and nothing else. Prints a
line for each command. Exits with 1 where anything is lost or left.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from sounding_videos import video

from jointdit.media import read_clip
from jointdit.train.cache import LatentCache
from jointdit.train.checkpoint import read_counters

QUICK = ["--frames", "8", "--size", "64x64", "--quiet"]


def command(*argv: object) -> list[str]:
    return [sys.executable, "-m", "jointdit", *map(str, argv)]


def whole(argv: list[str]) -> float:
    """Runs a command to its end; its seconds."""
    start = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def killed(argv: list[str], seconds: float, number: int) -> int:
    """The status of a command that gets a signal after so many seconds."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            return process.wait(120)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.startswith("lock")}


def try_command(name: str, argv: list[str], folder: Path, kills: int, whole_now: Callable[[], None]) -> list[str]:
    """What was lost or left by kills of a command that writes into `folder`.

    whole_now: raises unless what stands in the folder can be used.
    """
    full = whole(argv)
    expected, wrong, statuses = names(folder), [], []
    for index in range(kills):
        if name != "generate":  # which replaces what is there
            shutil.rmtree(folder, ignore_errors=True)
        number = (signal.SIGTERM, signal.SIGKILL)[index % 2]
        seconds = full * random.uniform(0.3, 1)  # most of the rest is Python's start
        status = killed(argv, seconds, number)
        statuses.append(status)
        left = [path for path in names(folder) if ".partial" in path] if folder.exists() else []
        if number == signal.SIGTERM and left:
            wrong.append(f"{name}: SIGTERM after {seconds:.2f} s left {left}")
        if number == signal.SIGTERM and status not in (0, 143, -signal.SIGTERM):  # the last before main() runs
            wrong.append(f"{name}: SIGTERM after {seconds:.2f} s gave status {status}")
        for moment in ("the kill", "the next run"):
            if moment == "the next run":
                whole(argv)
                if names(folder) != expected:
                    wrong.append(f"{name}: {names(folder) ^ expected} differ after a kill at {seconds:.2f} s")
            try:
                if moment == "the next run" or name == "generate":
                    whole_now()
            except Exception as error:  # whatever it is, something was lost
                wrong.append(f"{name}: lost after {moment} at {seconds:.2f} s: {error!r}")
    print(f"{name}: {kills} kills over {full:.1f} s, statuses {sorted(set(statuses))}, {len(wrong)} wrong", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--commands", nargs="+", default=["generate", "cache", "train"])
    arguments = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for index in range(4):
            video(base / "videos" / "dog" / f"{index}.mp4", seconds=1.4)
        made, cache, run = base / "made", base / "cache", base / "run"
        made.mkdir()
        source = base / "source"
        shape = ["--frames", "8", "--fps", "12.5", "--size", "64x64", "--quiet"]
        whole(command("cache", base / "videos", source, *shape))
        clips = len(LatentCache(source))
        options = {"cache": source, "output": run, "steps": 6, "batch": 1, "held_out": 2, "samples": 0, "save_every": 2}
        options |= {"precision": "float32", "tensorboard": "false", "log_every": 1, "validate_every": 3}
        changes = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]

        def trained() -> None:
            assert read_counters(run / "state.safetensors")["step"] == 6
            steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
            assert steps == sorted(set(steps)) and steps[-1] == 6, steps

        def cached() -> None:
            assert len(LatentCache(cache)) == clips

        trials = {
            "generate": (
                command("generate", "-o", made / "a.mp4", "--seed", 1, "--steps", 2, *QUICK),
                made,
                lambda: read_clip(made / "a.mp4"),
            ),
            "cache": (command("cache", base / "videos", cache, *shape), cache, cached),
            "train": (command("train", "a", *changes, "--quiet"), run, trained),
        }
        wrong = []
        for name in arguments.commands:
            argv, where, check = trials[name]
            wrong += try_command(name, argv, where, arguments.kills, check)
    print("\n".join(wrong) or "nothing was lost or left")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
