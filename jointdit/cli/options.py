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

from ..errors import InputError, shortened
from ..toml_files import path_beside, read_toml, refuse_unknown

READ = ("image", "video", "audio", "model", "video_expert", "audio_expert", "joint")  # options that name what is read
SHOWN = 60  # characters of a wrong value that a message repeats


@dataclass(frozen=True)
class Option:
    """One option. `name` is its key in a TOML file and, with two dashes before it, on the command line.

    read: turns the text into the value, or raises ValueError with the reason.
    """

    name: str
    metavar: str
    read: Callable[[str], object]
    help: str
    positional: bool = False

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
            parser.add_argument(option.key, metavar=option.metavar, nargs="?", help=option.help)
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
        if text is None and config is not None:
            text = config.get(option.name)
        values[option.key] = None if text is None else _value(option, text)
    return values


def _value(option: Option, text: str) -> object:
    try:
        return option.read(text)
    except ValueError as error:
        raise InputError(f"{option.shown} {shortened(text, SHOWN)}: {error}") from None


def read_files(options: Mapping[str, Any], *more: Path | None) -> list[Path]:
    """What a command reads, by its options and besides, for `refuse_sources`."""
    named = [options.get(name) for name in READ]
    return [Path(path) for path in (*named, *more) if path is not None]


def read_config(path: Path, options: Iterable[Option]) -> dict[str, str]:
    """The texts in a TOML file by option name. Paths in it are relative to the file's folder."""
    known = {option.name: option for option in options}
    config = read_toml(path)
    refuse_unknown(path, config, known)
    texts = {}
    for name, value in config.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InputError(f"{path}: {name} must be a text or a number")
        read, texts[name] = known[name].read, str(value)
        if read in (Path, model_name):
            texts[name] = path_beside(path, texts[name], may_be_name=read is model_name)
    return texts


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """Reads a whole number in a range."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if not lowest <= value <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return value

    return read


def number(lowest: float, highest: float) -> Callable[[str], float]:
    """Reads a number in a range."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not lowest <= value <= highest:  # NaN is in no range
            raise ValueError(f"must be a number from {lowest:g} to {highest:g}")
        return value

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """Reads one of a few words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


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


def size(text: str) -> tuple[int, int]:
    """Reads WIDTHxHEIGHT in pixels."""
    side = whole(16, 4096)
    width, _, height = text.lower().partition("x")
    try:
        return side(width), side(height)
    except ValueError:
        raise ValueError("must be WIDTHxHEIGHT in pixels, each from 16 to 4096, for example 128x128") from None


def frame_rate(text: str) -> Fraction:
    """Reads frames per second exactly: 12, 12.5, 25/2 or 24000/1001."""
    from ..media import exact_fps

    try:
        value = exact_fps(text)
    except ValueError:
        value = Fraction(0)
    if not 1 <= value <= 240:
        raise ValueError("must be from 1 to 240 frames a second, for example 12.5 or 24000/1001")
    return value


FRAMES = Option("frames", "N", whole(2, 1000), "number of frames")
FPS = Option("fps", "F", frame_rate, "frames per second, for example 12, 12.5 or 24000/1001")
SIZE = Option("size", "WxH", size, "width and height in pixels, for example 128x128")
SEED = Option("seed", "N", whole(0, 2**64 - 1), "number that fixes everything random")
