"""What a command shows on stderr while it works: a progress bar for each stage, without the output of its libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from tqdm import tqdm


class Progress:
    """A callback (stage, done, total) that draws one bar a stage; nothing where stderr is not a terminal.

    format: more arguments of tqdm, such as its unit.
    """

    def __init__(self, quiet: bool, **format: Any) -> None:
        self._format = format
        self._disable = True if quiet else None  # None: tqdm looks whether stderr is a terminal
        self._bar: tqdm | None = None
        self._stage = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._close()
            self._bar = tqdm(desc=stage, total=total, initial=done, disable=self._disable, **self._format)
            self._stage = stage
        if self._bar is not None:
            self._bar.total = total  # a given video needs fewer steps than were foreseen
            self._bar.update(done - self._bar.n)
        if done == total:
            self._close()  # now, or its clock would run on until the next stage

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def hushed() -> Iterator[None]:
    """Without the warnings and progress bars of diffusers and transformers."""
    import diffusers.utils.logging
    import transformers.utils.logging

    loggers = (diffusers.utils.logging, transformers.utils.logging)
    before = [(logger.get_verbosity(), logger.is_progress_bar_enabled()) for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
        logger.disable_progress_bar()
    try:
        yield
    finally:
        for logger, (verbosity, bar) in zip(loggers, before, strict=True):
            logger.set_verbosity(verbosity)
            if bar:
                logger.enable_progress_bar()


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
