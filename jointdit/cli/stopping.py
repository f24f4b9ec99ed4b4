"""A process that is told to end (SIGTERM) stops as with Ctrl-C: what is in work is cleaned up, what is done is kept."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_SECONDS = 0.05  # until a signal that was lost is given again


class Terminated(KeyboardInterrupt):
    """The process was told to end. All that minds Ctrl-C minds this."""


def stop(number: int, frame: FrameType | None) -> None:
    """Handles SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the way out is short, and must not be interrupted
    raise Terminated


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises Terminated in this block, once; it is left alone where somebody else handles it.

    Neither it nor Ctrl-C is lost where Python drops exceptions, such as in a finalizer: it comes again.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    dropped = sys.unraisablehook

    def notice(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            return dropped(unraisable)
        number = signal.SIGINT
        if isinstance(unraisable.exc_value, Terminated):
            number = signal.SIGTERM
            signal.signal(number, stop)
        # Not now: it would be dropped here as well.
        threading.Timer(AGAIN_SECONDS, signal.raise_signal, [number]).start()

    signal.signal(signal.SIGTERM, stop)
    sys.unraisablehook = notice
    try:
        yield
    finally:
        sys.unraisablehook = dropped
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
