"""The command `jointdit`. Each command is a module beside this one; what is heavy is imported when a command runs."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..errors import in_one_line, meant
from ..version import __version__
from . import cache, doctor, evaluate, fetch_models, generate, run_workflow, synth, train, ui
from .complaints import complaint
from .light import import_less
from .stopping import Terminated, terminable

BUG, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143  # exit status
LONGEST, SHOWN_OF_BUG = 1500, 200  # characters of a message, and of a bug's
OF_TABLES = (each.key for each in (*generate.OPTIONS, *evaluate.OPTIONS) if each.read is Path and not each.positional)
CHOICE = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)")  # argparse's
PATHS = {"config", "to", "out", "save_api", *OF_TABLES}


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line, without the usage above it, and names what may have been meant."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        found, unknown = self.parse_known_args(words, namespace)
        if unknown:
            self.error(self._unknown(words, unknown))
        return found

    def _unknown(self, words: Sequence[str], unknown: Sequence[str]) -> str:
        """What is said of the first word that no command takes."""
        commands = next(each for each in self._actions if isinstance(each, argparse._SubParsersAction)).choices
        parser = next(commands[word] for word in words if word in commands)
        word = unknown[0].split("=")[0]
        if not word.startswith("-"):
            return f"{word}: not expected here; `{parser.prog} --help` says what is"
        names = [name.removeprefix("--") for name in parser._option_string_actions if name.startswith("--")]
        near = meant(word.lstrip("-"), names, before="--")
        return f"{word}: there is no such option{near or f'; `{parser.prog} --help` lists them'}"

    def error(self, message: str) -> NoReturn:
        if choice := CHOICE.search(message):
            given, known = choice.groups()
            message += meant(given, known.replace("'", "").split(", "))
        _report(message)
        raise SystemExit(BAD_INPUT)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command, that of this process if `argv` is None, and returns its exit status: 0 done, 1 a bug, 2 bad
    input, 130 interrupted, 143 terminated.

    What the user can correct is an InputError, an error of the system, or memory that ran out, and is told in one line.
    Anything else is a bug: a line tells where its trace is. Raises SystemExit, as argparse does, for `--help`,
    `--version` and a wrong command line.
    """
    arguments = _parser().parse_args(argv)
    if argv is None and arguments.run is generate.run:
        import_less(generate.unused(arguments))
    try:
        with warnings.catch_warnings(), terminable():
            if not arguments.debug:
                warnings.simplefilter("ignore")
            arguments.run(arguments)
    except Terminated:
        print("jointdit: terminated", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("jointdit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # the one place where all errors end, so that none reaches the user bare
        message = complaint(error)
        if message is not None and isinstance(error, OSError) and error.filename is not None:
            message = _option_of(str(error.filename), arguments) + message
        if arguments.debug:
            traceback.print_exc()
        if message is None:
            _report_bug(error, arguments.debug)
            return BUG
        _report(message)
        return BAD_INPUT
    return 0


def _option_of(path: str, arguments: argparse.Namespace) -> str:
    """The option that names a path or a folder above it."""
    for name, value in vars(arguments).items():
        if name in PATHS and value is not None and Path(path).is_relative_to(value):
            return f"--{name.replace('_', '-')}: "
    return ""


def _report_bug(error: Exception, shown: bool) -> None:
    where = "its trace is above"
    if not shown:
        trace = "".join(traceback.format_exception(error))
        try:
            with tempfile.NamedTemporaryFile(
                "w", prefix="jointdit-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
            ) as file:
                file.write(trace)
            where = f"its trace is in {file.name}, and --debug shows it"
        except OSError:
            where = "its trace could be written nowhere; --debug shows it"
    what = in_one_line(f"{type(error).__name__}: {error}", SHOWN_OF_BUG)
    print(f"jointdit: this is a bug, please report it ({what}); {where}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jointdit", description="Turn a picture into a short video with its own sound.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"jointdit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (generate, ui, synth, evaluate, cache, train, fetch_models, run_workflow, doctor):
        command.add_parser(commands)
    return parser


def _report(message: str) -> None:
    print("jointdit: error:", in_one_line(message, LONGEST), file=sys.stderr)
