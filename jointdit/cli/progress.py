"""What a command shows on stderr while it works: a progress bar for each stage, or lines where there is no terminal,
without the output of its libraries."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

LINE_SECONDS = 30.0  # between two lines where there is no terminal


class _Lines:
    """In place of a terminal: what a bar would show, as a line now and then."""

    encoding = "utf-8"

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class Progress:
    """A callback (stage, done, total, note) that draws one bar a stage. Where stderr is not a terminal, long stages
    write a line every half minute instead, with their rate and the time that is left.

    Warnings of the library stand in lines of their own.

    note: what else to show, such as a loss.
    format: more arguments of tqdm, such as its unit.
    """

    def __init__(self, quiet: bool, **format: Any) -> None:
        terminal = sys.stderr.isatty()
        lines = {} if terminal else {"file": _Lines(), "mininterval": LINE_SECONDS, "ncols": 100, "ascii": True}
        self._format = {"disable": quiet, "delay": 0 if terminal else LINE_SECONDS, **lines, **format}
        self._bar: tqdm | None = None
        self._stage = ""
        self._warnings = logging_redirect_tqdm()

    def __enter__(self) -> Progress:
        self._warnings.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._warnings.__exit__(kind, error, trace)

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage != self._stage:
            self._close()
            self._bar = tqdm(desc=stage, total=total, initial=done, **self._format)
            self._stage = stage
        if self._bar is not None:
            self._bar.total = total  # a given video needs fewer steps than were foreseen
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
        if done == total:
            self._close()  # now, or its clock would run on until the next stage

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Lines can be printed meanwhile; the bar is drawn again afterwards."""
        with tqdm.external_write_mode():
            yield

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def hushed() -> Iterator[None]:
    """Without the warnings and progress bars of diffusers and transformers, and of what they import."""
    import diffusers.utils.logging
    import transformers.utils.logging

    eight_bits = logging.getLogger("bitsandbytes")  # where it is installed, diffusers imports it
    level = eight_bits.level
    eight_bits.setLevel(logging.ERROR)

    loggers = (diffusers.utils.logging, transformers.utils.logging)
    before = [(logger.get_verbosity(), logger.is_progress_bar_enabled()) for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
        logger.disable_progress_bar()
    try:
        yield
    finally:
        eight_bits.setLevel(level)
        for logger, (verbosity, bar) in zip(loggers, before, strict=True):
            logger.set_verbosity(verbosity)
            if bar:
                logger.enable_progress_bar()


@contextmanager
def hushed_decoders() -> Iterator[None]:
    """Without what libraries in C write to stderr of damaged pictures (libtiff). For a process with one thread."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def hushed_hub() -> Iterator[None]:
    """Without the warnings and progress bars of huggingface_hub."""
    from huggingface_hub import utils

    verbosity, hidden = utils.logging.get_verbosity(), utils.are_progress_bars_disabled()
    utils.logging.set_verbosity_error()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(verbosity)
        if not hidden:
            utils.enable_progress_bars()
