"""What the first clip of a command takes, and each further one of a list, by stage, in fresh processes.

    python tests/benchmarks/first_clip.py --pairs 3 --json docs/logs/first_clip.json
    python tests/benchmarks/first_clip.py --baseline ../before      # in turn with another checkout

Without a baseline, each run is paired with one that imports everything that is installed (without `cli/light.py`).
Processor seconds count: those of the clock depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGES = ("imports", "load", "sample", "write")
MEASURED = """
import json, sys, time
from jointdit import cli
from jointdit.cli import generate

laps, now = [], 0.0
if sys.argv.pop(1) == "everything":
    cli.import_less = lambda names: None

def lap(stage):
    global now
    laps.append((stage, time.process_time() - now))
    now = time.process_time()

def ends(owner, name, stage, first=lambda: None):
    function = getattr(owner, name)
    def measured(*arguments):
        first()
        result = function(*arguments)
        lap(stage)
        return result
    setattr(owner, name, measured)

def imports():
    from jointdit import JointDiTPipeline
    lap("imports")

ends(generate, "load_model", "load", imports)
ends(generate._Run, "_one", "sample")
ends(generate._Run, "_batch", "sample")
ends(generate._Run, "_keep", "write")
status = cli.main()
modules = sum(module is not None for module in sys.modules.values())
print(json.dumps([status, laps, time.process_time(), modules]))
"""


def run(root: Path, clips: int, everything: bool) -> dict[str, float]:
    """Processor seconds of one process by stage, of its first clip and of each further one, and the modules that it
    imported."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["generate", "--quiet", "--seeds", f"{clips}x", "--batch", "1", "-o", folder]
        command = [sys.executable, "-c", MEASURED, "everything" if everything else "less", *words]
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True)
    status, laps, whole, modules = json.loads(done.stdout.splitlines()[-1])
    if status:
        raise SystemExit(done.stderr)
    found = {stage: next(seconds for name, seconds in laps if name == stage) for stage in STAGES}
    first = sum(found.values())
    started = sum(seconds for name, seconds in laps if name in ("imports", "load"))
    made = sum(seconds for name, seconds in laps if name in ("sample", "write"))
    further = (made - found["sample"] - found["write"]) / max(1, clips - 1)
    return found | {
        "first clip": first,
        "each further clip": further,
        "end": whole - started - made,
        "modules": modules,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--baseline", type=Path, help="another checkout")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    other = arguments.baseline.resolve() if arguments.baseline else ROOT
    rows: dict[str, list[dict[str, float]]] = {"this": [], "other": []}
    for _ in range(arguments.pairs):
        rows["other"].append(run(other, arguments.clips, everything=arguments.baseline is None))
        rows["this"].append(run(ROOT, arguments.clips, everything=False))
        print(json.dumps({name: each[-1] for name, each in rows.items()}), flush=True)
    ratios = [mine["first clip"] / its["first clip"] for mine, its in zip(rows["this"], rows["other"], strict=True)]
    found = {
        "command": f"python tests/benchmarks/first_clip.py {' '.join(sys.argv[1:])}",
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU, 1 thread",
        "other": "another checkout" if arguments.baseline else "everything that is installed is imported",
        "processor seconds": {name: medians(each) for name, each in rows.items()},
        "ratios of the first clip": [round(ratio, 3) for ratio in ratios],
    }
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}


if __name__ == "__main__":
    main()
