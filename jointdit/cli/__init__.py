"""The command `jointdit`. Each command is a module beside this one; what is heavy is imported when a command runs."""

from __future__ import annotations

import argparse
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

from ..errors import InputError
from ..version import __version__
from . import cache, evaluate, fetch_models, generate, run_workflow, synth, train, ui

BAD_INPUT = 2
INTERRUPTED = 130
# PyTorch's on GPUs and on a CPU, and the operating system's.
OUT_OF_MEMORY = re.compile("out of memory|not enough memory|[Cc]an(?:'|no)t allocate memory")


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        _report(message)
        raise SystemExit(BAD_INPUT)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 done, 2 bad input (one line on stderr), 130 interrupted.

    Raises SystemExit, as argparse does, for `--help`, `--version` and a wrong command line. Any error that the user
    cannot correct is a bug and is raised as it is.
    """
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            if not arguments.debug:
                warnings.simplefilter("ignore")
            arguments.run(arguments)
    except KeyboardInterrupt:
        print("jointdit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        message = _complaint(error)
        if message is None:
            raise
        if arguments.debug:
            traceback.print_exc()
        _report(message)
        return BAD_INPUT
    return 0


def _complaint(error: InputError | OSError | MemoryError | RuntimeError) -> str | None:
    """What the user is told; None for a bug."""
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
        return f"memory ran out; ask for less at once ({error})"
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {str(error.strerror).lower()}"
    return None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jointdit", description="Turn a picture into a short video with its own sound.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"jointdit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (generate, ui, synth, evaluate, cache, train, fetch_models, run_workflow):
        command.add_parser(commands)
    return parser


def _report(message: str) -> None:
    print("jointdit: error:", " ".join(message.split()), file=sys.stderr)
