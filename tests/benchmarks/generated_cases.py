"""Generated input for as long as asked: python tests/benchmarks/generated_cases.py --minutes 60

Prints what failed, with the smallest case that was found, and how many cases there were. `--kind` picks one kind. Each
run draws other cases. Status 1 if something failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

from generated import KINDS, fails_well  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from jointdit.comfyui import client  # noqa: E402

BATCH = 200  # cases of a kind before the next one's turn


def run_batch(kind: str, folder: Path, end: float) -> tuple[int, str | None]:
    """Cases of one kind until the batch or the time is over: how many there were, and what failed."""
    count = 0

    @settings(max_examples=BATCH, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data: st.DataObject) -> None:
        nonlocal count
        if time.monotonic() < end:
            count += 1
            fails_well(data.draw(KINDS[kind](folder)))

    try:
        run()
    except Exception:  # whatever it is: this command is there to find it
        return count, traceback.format_exc()
    return count, None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kind", choices=KINDS, action="append")
    arguments = parser.parse_args()
    client.TIMEOUT = client.BUSY = client.QUIET = 2.0
    end = time.monotonic() + 60 * arguments.minutes
    counts, failures = dict.fromkeys(arguments.kind or KINDS, 0), set()
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            for kind in counts:
                count, failure = run_batch(kind, Path(folder), end)
                counts[kind] += count
                if failure and failure not in failures:
                    failures.add(failure)
                    print(f"== {kind}\n{failure}", flush=True)
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()), f"- {len(failures)} failures")
    return bool(failures)


if __name__ == "__main__":
    raise SystemExit(main())
