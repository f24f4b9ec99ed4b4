"""Work beside the page that waits for it: its steps as they come, and its end when the page no longer waits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")
PAUSE = 0.1  # seconds between two looks


class Cancelled(Exception):
    """Raised inside work that nobody waits for any more."""


@dataclass(frozen=True)
class Step:
    """done of total of a stage, and what the clip looks like by then: uint8 [F, h, w, 3], or None."""

    stage: str
    done: int
    total: int
    frames: np.ndarray | None = None


@dataclass(frozen=True)
class Done(Generic[T]):
    """What the work made."""

    result: T


Report = Callable[[Step], None]


def in_steps(work: Callable[[Report], T]) -> Generator[Step | Done[T], None, None]:
    """Runs `work` in a thread of its own and yields its last step now and then, and what it made. Its error is raised
    here. When the iterator is closed, `work` ends at its next report."""
    steps: queue.SimpleQueue[Step] = queue.SimpleQueue()
    unwanted = threading.Event()

    def report(step: Step) -> None:
        if unwanted.is_set():
            raise Cancelled
        steps.put(step)

    pool = ThreadPoolExecutor(1)
    future = pool.submit(work, report)
    pool.shutdown(wait=False)  # it takes no other work, and whoever closes this waits for nothing
    try:
        while not future.done():
            if step := _last(steps):
                yield step
        yield Done(future.result())
    finally:
        unwanted.set()


def _last(steps: queue.SimpleQueue[Step]) -> Step | None:
    """The newest step, waited for a little. A picture is not lost to a later step without one."""
    try:
        step = steps.get(timeout=PAUSE)
        while not steps.empty():
            later = steps.get()
            step = later if later.frames is not None else Step(later.stage, later.done, later.total, step.frames)
    except queue.Empty:
        return None
    return step
