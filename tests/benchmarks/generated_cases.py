"""Generated input for as long as asked: mutants of every kind of file and reply that is read.

    python tests/benchmarks/generated_cases.py --minutes 60 --json docs/logs/generated_cases.json

Each must end within a minute, in a result or in one line, with less than 4 GB of memory in use, and without a
connection (to the server whose replies are tried, with none to another machine). Prints what failed, with the smallest
case that was found. A crash or a hang ends the command with its trace. Each run draws other cases; `--kind` picks one
kind. Status 1 if something failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import platform
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

from generated import KINDS, MEDIA, fails_well  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from offline import no_network  # noqa: E402
from peak_memory import peak_memory  # noqa: E402

from jointdit.cli.progress import hushed  # noqa: E402
from jointdit.comfyui import client  # noqa: E402
from jointdit.media.files import write_json  # noqa: E402

BATCH = 200  # cases of a kind before the next one's turn
HANG = 60.0  # seconds
MEMORY = 4 * 10**9  # bytes
SHOWN = 6000  # characters of a failure
ALL = KINDS | MEDIA


@dataclass
class Kind:
    """What became of the cases of one kind. slowest: in seconds."""

    cases: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)


def run_batch(name: str, kind: Kind, folder: Path, end: float) -> None:
    """Cases of one kind until the batch or the time is over."""

    @settings(max_examples=BATCH, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data: st.DataObject) -> None:
        case = data.draw(ALL[name](folder))
        if time.monotonic() >= end:  # a case is drawn in any case, or Hypothesis would take the end for a flaw
            return
        faulthandler.dump_traceback_later(HANG, exit=True)
        start = time.monotonic()
        try:
            with no_network(but_here=name == "replies") as tried:
                fails_well(case)
        finally:
            faulthandler.cancel_dump_traceback_later()
        kind.cases += 1
        kind.slowest = max(kind.slowest, time.monotonic() - start)
        assert not tried, f"connected to {tried}"
        assert peak_memory() < MEMORY

    try:
        run()
    except Exception:  # whatever it is: this command is there to find it
        kind.failures.append(traceback.format_exc())
        print(f"== {name}\n{kind.failures[-1][-SHOWN:]}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kind", choices=ALL, action="append")
    parser.add_argument("--json", type=Path, help="where the counts go")
    arguments = parser.parse_args()
    faulthandler.enable()
    client.TIMEOUT = client.BUSY = client.QUIET = 2.0
    start, kinds = time.monotonic(), {name: Kind() for name in arguments.kind or ALL}
    end = start + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as folder, hushed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while time.monotonic() < end:
            for name, kind in kinds.items():
                run_batch(name, kind, Path(folder), end)
    cases, failures = sum(kind.cases for kind in kinds.values()), sum(len(kind.failures) for kind in kinds.values())
    if arguments.json:
        write_json(arguments.json, report(arguments, kinds, time.monotonic() - start))
    counts = ", ".join(f"{kind.cases} {name}" for name, kind in kinds.items())
    print(f"{cases} cases ({counts}), {failures} failures; at most {peak_memory() / 1e9:.2f} GB")
    return bool(failures)


def report(arguments: argparse.Namespace, kinds: dict[str, Kind], seconds: float) -> dict[str, Any]:
    return {
        "command": f"python tests/benchmarks/generated_cases.py --minutes {arguments.minutes:g}",
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), no GPU",
        "minutes": round(seconds / 60, 1),
        "cases": sum(kind.cases for kind in kinds.values()),
        "failures": sum(len(kind.failures) for kind in kinds.values()),
        "peak memory in GB": round(peak_memory() / 1e9, 2),
        "kinds": {
            name: {
                "cases": kind.cases,
                "slowest in seconds": round(kind.slowest, 2),
                "failures": [failure[-SHOWN:] for failure in kind.failures],
            }
            for name, kind in kinds.items()
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
