"""`jointdit train`: Joint Blocks, and if asked the experts, learn from cached latents."""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..errors import InputError
from .models import allow_growing_blocks
from .stopping import Terminated, stop


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = (
        "Train on latents that `jointdit cache` made. A run that was stopped or killed goes on from its last "
        "checkpoint when the same command is given again. Several GPUs or machines: `accelerate launch -m jointdit "
        "train CONFIG`; N processes on CPUs: `torchrun --standalone --nproc_per_node N -m jointdit train CONFIG`."
    )
    parser = commands.add_parser("train", help="train on cached latents", description=text)
    parser.add_argument("config", metavar="CONFIG", help="TOML file with the options, or a or b: the stage's template")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="change an option; may be repeated"
    )
    parser.add_argument("--minutes", metavar="M", type=float, help="stop after so long, to go on later")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error, and warnings")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Trains and prints where the result is."""
    changes = {}
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: give NAME=VALUE, for example batch=8")
        changes[name] = value
    if arguments.minutes is not None and not arguments.minutes > 0:
        raise InputError(f"--minutes {arguments.minutes}: must be above 0")

    from ..train.stages import TEMPLATES, read_config

    template = TEMPLATES.get(arguments.config)
    if template is not None:  # its paths are the user's
        changes = {"cache": str(Path.cwd() / "cache"), "output": str(Path.cwd() / "run")} | changes
    config = read_config(template or Path(arguments.config), changes)
    if config.memory == "auto":
        allow_growing_blocks()

    from .progress import Progress, hushed

    logging.basicConfig(level=logging.WARNING)
    with hushed(), Progress(arguments.quiet) as progress, _interrupted_between_steps() as check:
        from accelerate import PartialState

        from ..train.run import train_stage

        def step(stage: str, done: int, total: int, note: str) -> None:
            progress(stage, done, total, note)
            check()

        outcome = train_stage(config, step, 60 * arguments.minutes if arguments.minutes else None)
    if not PartialState().is_main_process:
        return
    shared = f", {outcome.processes} processes" if outcome.processes > 1 else ""
    if outcome.result is None:
        print(f"{config.output}: stopped before its {config.steps} steps; the same command goes on")
    elif not outcome.steps:
        print(f"{outcome.result}: this run of {config.steps} steps was finished before; nothing was left to do")
    else:
        print(f"{outcome.result}: {config.steps} steps{shared}")


@contextmanager
def _interrupted_between_steps() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM wait for the end of the step, where the state is whole and is saved; a second one does not
    wait. Gives what raises KeyboardInterrupt or Terminated there."""
    asked: type[KeyboardInterrupt] | None = None

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if asked is not None:
            raise kind
        asked = kind

    def check() -> None:
        if asked is not None:
            raise asked

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # One that is switched off, as for jobs in the background, or somebody else's, stays as it is.
    ours = [number for number, handler in handlers.items() if handler in (signal.default_int_handler, stop)]
    for number in ours:
        signal.signal(number, remember)
    try:
        yield check
    finally:
        for number in ours:
            signal.signal(number, handlers[number])
