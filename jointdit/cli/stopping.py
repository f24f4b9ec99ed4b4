"""A process that is told to end (SIGTERM) stops as with Ctrl-C: what is in work is cleaned up, what is done is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was told to end. All that minds Ctrl-C minds this."""


def stop(number: int, frame: FrameType | None) -> None:
    """Handles SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the way out is short, and must not be interrupted
    raise Terminated


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises Terminated in this block, once; it is left alone where somebody else handles it."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
