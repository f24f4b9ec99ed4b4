"""Options that mean the same, and are checked the same, on the command line and in a TOML file."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import InputError, in_one_line
from ..options import DECLARED, Choice, Declared, Flag, Kind, Range
from ..toml_files import path_beside, read_toml, refuse_unknown

# Options that name what is read.
READ = ("image", "video", "audio", "model", "video_expert", "audio_expert", "joint", "video_lora")
LARGEST = 10**30  # whole number in a file
SHOWN = 60  # characters of a wrong value that a message repeats


@dataclass(frozen=True)
class Option:
    """One option. `name` is its key in a TOML file and, with two dashes before it, on the command line.

    read: turns the text into the value, or raises ValueError with the reason.
    flag: takes no value on the command line, and true or false in a TOML file.
    many: positional, and may be given several times; its texts are then read one by one into a tuple.
    """

    name: str
    metavar: str
    read: Callable[[str], object]
    help: str
    positional: bool = False
    flag: bool = False
    many: bool = False

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def shown(self) -> str:
        return self.metavar if self.positional else f"--{self.name}"


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Adds `options`, whose texts are read later by `read_options`, and `--debug`."""
    for option in options:
        if option.positional:
            count = "*" if option.many else "?"
            parser.add_argument(option.key, metavar=option.metavar, nargs=count, help=option.help)
        elif option.flag:
            parser.add_argument(f"--{option.name}", action="store_const", const="true", help=option.help)
        else:
            short = ["-o"] if option.name == "output" else []
            parser.add_argument(*short, f"--{option.name}", metavar=option.metavar, help=option.help)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error, and warnings")


def read_options(
    options: Iterable[Option], arguments: argparse.Namespace, config: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The value of each option by its key: from the command line, else from `config`, else None."""
    values: dict[str, Any] = {}
    for option in options:
        text = getattr(arguments, option.key)
        if option.many:
            texts = text or [each for each in [(config or {}).get(option.name)] if each is not None]
            values[option.key] = tuple(_value(option, each) for each in texts)
            continue
        if text is None and config is not None:
            text = config.get(option.name)
        values[option.key] = None if text is None else _value(option, text)
    return values


def _value(option: Option, text: str) -> object:
    try:
        return option.read(text)
    except ValueError as error:
        raise InputError(f"{option.shown} {in_one_line(text, SHOWN)}: {error}") from None


def read_files(options: Mapping[str, Any], *more: Path | None) -> list[Path]:
    """What a command reads, by its options and besides, for `refuse_sources`. Pictures that may be many are not among
    them."""
    named = [options.get(name) for name in READ]
    return [Path(path) for path in (*named, *more) if isinstance(path, str | Path)]


def read_config(path: Path, options: Iterable[Option]) -> dict[str, str]:
    """The texts in a TOML file by option name. Paths in it are relative to the file's folder."""
    known = {option.name: option for option in options}
    texts = texts_of(path, read_toml(path), options)
    for name in texts:
        if (read := known[name].read) in (Path, model_name):
            texts[name] = path_beside(path, texts[name], may_be_name=read is model_name)
    return texts


def texts_of(source: object, values: Mapping[str, Any], options: Iterable[Option]) -> dict[str, str]:
    """The texts of untrusted values by option name. source: where they are from, named in messages.

    Raises InputError for a name that no option has, and for a value of another kind.
    """
    known = {option.name: option for option in options}
    refuse_unknown(source, values, known)
    texts = {}
    for name, value in values.items():
        flag = known[name].flag
        fits = value in ("true", "false", True, False) if flag else not isinstance(value, bool)
        if not fits or not isinstance(value, str | int | float):
            raise InputError(f"{source}: {name} must be {'true or false' if flag else 'a text or a number'}")
        if isinstance(value, int) and abs(value) > LARGEST:  # Python writes none of more than 4300 digits
            raise InputError(f"{source}: {name} is too large a number")
        texts[name] = str(value).lower() if flag else str(value)
    return texts


@dataclass(frozen=True)
class InRange:
    """Reads a number of a kind in a range, both ends included."""

    kind: type[int] | type[float]
    lowest: float
    highest: float

    def __call__(self, text: str) -> Any:
        try:
            value = self.kind(text)
        except ValueError:
            value = math.nan
        if not self.lowest <= value <= self.highest:  # NaN is in no range
            name, ends = ("a whole number", "") if self.kind is int else ("a number", "g")
            raise ValueError(f"must be {name} from {self.lowest:{ends}} to {self.highest:{ends}}")
        return value


def whole(lowest: int, highest: int) -> InRange:
    """Reads a whole number in a range."""
    return InRange(int, lowest, highest)


def number(lowest: float, highest: float) -> InRange:
    """Reads a number in a range."""
    return InRange(float, lowest, highest)


@dataclass(frozen=True)
class OneOf:
    """Reads one of a few words."""

    choices: tuple[str, ...]

    def __call__(self, text: str) -> str:
        if text not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}")
        return text


def one_of(*choices: str) -> OneOf:
    """Reads one of a few words."""
    return OneOf(choices)


def words(text: str) -> str:
    """Reads a text. Bytes that are not UTF-8 come as halves of characters, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text in UTF-8") from None
    return text


def device_name(text: str) -> str:
    """Reads the name of a device; whether there is one is seen later."""
    if not re.fullmatch(r"cpu|mps|(cuda|xpu)(:\d{1,3})?", text):
        raise ValueError("must be cpu, cuda, cuda:1, mps or the like")
    return text


def model_name(text: str) -> str:
    """Reads a model's name, folder or file; whether there is one is seen later."""
    if not text.strip():
        raise ValueError("must not be empty; the model that is built in is tiny")
    return text


def size(lowest: int, highest: int) -> Callable[[str], tuple[int, int]]:
    """Reads WIDTHxHEIGHT in pixels."""
    side = whole(lowest, highest)

    def read(text: str) -> tuple[int, int]:
        width, _, height = text.lower().partition("x")
        try:
            return side(width), side(height)
        except ValueError:
            each = f"each from {lowest} to {highest}"
            raise ValueError(f"must be WIDTHxHEIGHT in pixels, {each}, for example 128x128") from None

    return read


def frame_rate(lowest: int, highest: int) -> Callable[[str], Fraction]:
    """Reads frames per second exactly: 12, 12.5, 25/2 or 24000/1001."""

    def read(text: str) -> Fraction:
        from ..media import exact_fps

        try:
            value = exact_fps(text)
        except ValueError:
            value = Fraction(0)
        if not lowest <= value <= highest:
            raise ValueError(f"must be from {lowest} to {highest} frames a second, for example 12.5 or 24000/1001")
        return value

    return read


def span(lowest: float, highest: float) -> Callable[[str], tuple[float, float]]:
    """Reads two times in seconds with a hyphen between them."""
    second = number(lowest, highest)

    def read(text: str) -> tuple[float, float]:
        start, _, stop = text.partition("-")
        try:
            found = second(start), second(stop)
        except ValueError:
            found = lowest, lowest
        if found[0] >= found[1]:
            raise ValueError("must be two times in seconds that rise, for example 1.2-2.0")
        return found

    return read


def interval(lowest: float, highest: float) -> Callable[[str], tuple[float, float]]:
    """Reads LOW:HIGH."""
    end = number(lowest, highest)

    def read(text: str) -> tuple[float, float]:
        low, _, high = text.partition(":")
        try:
            pair = end(low), end(high)
        except ValueError:
            pair = highest, lowest
        if not pair[0] < pair[1]:
            raise ValueError(f"must be LOW:HIGH, two rising numbers from {lowest:g} to {highest:g}, for example 0:30")
        return pair

    return read


def yes_or_no(text: str) -> bool | None:
    """Reads a flag; one that is off is as good as left out."""
    return one_of("true", "false")(text) == "true" or None


def declared(*options: str | Declared) -> tuple[Option, ...]:
    """Options of the one table, as the command line and TOML files take them."""
    found = [DECLARED[each] if isinstance(each, str) else each for each in options]
    return tuple(
        Option(each.name, each.metavar, _reader(each.kind), each.help, flag=isinstance(each.kind, Flag))
        for each in found
    )


RANGES: Mapping[str, Callable[[Any, Any], Callable[[str], object]]] = {
    "whole": whole,
    "number": number,
    "interval": interval,
    "span": span,
    "rate": frame_rate,
    "size": size,
}


def _reader(kind: Kind) -> Callable[[str], object]:
    if isinstance(kind, Range):
        return RANGES[kind.form](kind.lowest, kind.highest)
    if isinstance(kind, Choice):
        return one_of(*kind.choices)
    return yes_or_no if isinstance(kind, Flag) else words


SEED, FRAMES, FPS, SIZE = declared("seed", "frames", "fps", "size")
