"""Checks of what comes from outside as JSON, TOML, metadata or a server's reply, where it enters.

It is parsed with bounds and becomes a dataclass, whose annotations say what its fields may hold, with a range as in
`Annotated[int, Between(1, 999)]`. Whatever does not fit is one InputError: place, key, value, and what is wanted.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import reprlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import InputError

T = TypeVar("T")
LARGEST = 64 * 2**20  # bytes of a file of settings; the largest tokenizers have 17 MB
DEEPEST = 100  # objects and lists inside each other
LONGEST = 100_000  # entries of a list that is a field
LISTS = (list, tuple, Sequence)
SURROGATE = re.compile(r"[\ud800-\udfff]")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxdict = _short.maxlist = _short.maxtuple = 4
_short.maxlevel = 3


def shown(value: object) -> str:
    """A value for a message: the beginning of it, without what a terminal would act upon."""
    try:
        return _short.repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number without end"


class WrongValue(InputError):
    """A value that cannot be. key: the field that has it; its message has no place yet."""

    def __init__(self, key: str, value: object, wanted: str) -> None:
        super().__init__(f"{key} is {shown(value)}, but must be {wanted}")
        self.key = key


@dataclass(frozen=True)
class Between:
    """The range of a number, or of the length of a text or a list. NaN is in none."""

    lowest: float
    highest: float = sys.float_info.max

    def holds(self, value: Any) -> bool:
        return self.lowest <= (value if isinstance(value, int | float) else len(value)) <= self.highest

    def __str__(self) -> str:
        if self.highest == sys.float_info.max:
            return f"at least {self.lowest:g}" if math.isfinite(self.lowest) else "or -inf"
        return f"from {self.lowest:g} to {self.highest:g}"


FINITE = Between(-sys.float_info.max)  # holds where a float's annotation has no range
Count = Annotated[int, Between(1, 100_000)]  # of channels, layers, samples, ...
Counts = Annotated[list[Count], Between(1, 1000)]


@contextmanager
def placed(place: object) -> Iterator[None]:
    """Puts the place of bad values before what is wrong with them."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def parse_json(text: str | bytes, only_finite: bool = True) -> Any:
    """The value of a JSON text.

    only_finite: refuses NaN and infinity, which JSON does not have but Python writes.
    Raises InputError, without a place, for a text that is no JSON and for one that is too deeply nested.
    """
    numbers: dict[str, Any] = {"parse_constant": _no_number, "parse_float": _finite} if only_finite else {}
    try:
        value = json.loads(text, **numbers)
    except RecursionError:
        raise InputError("not usable JSON (nested too deeply)") from None
    except ValueError as error:
        raise InputError(f"not valid JSON ({error})") from error
    check_tree(value)
    return value


def check_tree(value: object) -> None:
    """Raises InputError for what no file has and what is parsed all the same: lists and objects nested so deep that
    what walks them could recurse too far, and halves of characters, which cannot be written again."""
    level, depth = [value], 0
    while level:
        if (depth := depth + 1) > DEEPEST:
            raise InputError(f"nested more than {DEEPEST} deep")
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.keys()
                inner += each.values()
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, str) and not each.isascii() and SURROGATE.search(each):
                raise InputError(f"not a text in Unicode: {shown(each)}")
        level = inner


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def read_text(path: Path, hint: str = "check the path", largest: int = LARGEST) -> str:
    """A file of settings in UTF-8. hint: the remedy where there is no such file.

    Raises InputError that names the file where it cannot be read, is no text or is larger than any such file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise InputError(f"{path}: has more than {largest} bytes, too many for a file of settings")
        return content.decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); {hint}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text in UTF-8 ({error})") from error


def read_object(path: Path, hint: str = "check the path") -> dict[str, Any]:
    """A file that is one JSON object. Raises InputError that names it."""
    text = read_text(path, hint)
    with placed(path):
        value = parse_json(text)
        if not isinstance(value, dict):
            raise InputError(f"is {shown(value)}, but must be a JSON object")
    return value


def checked(make: Callable[..., T], values: object, only_known: bool = True, key: str = "") -> T:
    """An instance of a class, most of all a dataclass, from what was parsed: its parameters by their annotations.

    only_known: refuses keys that are no parameters; else they are left out. key: where the values were found.
    Raises InputError, without a place, for what does not fit the annotations; WrongValue where one key has it.
    """
    return make(**arguments(make, values, only_known, key))


def arguments(make: Callable[..., Any], values: object, only_known: bool = True, key: str = "") -> dict[str, Any]:
    """What `checked` calls a class with."""
    if not isinstance(values, Mapping):
        raise WrongValue(key or "it", values, "an object with keys")
    inside = f"{key}." if key else ""
    needed, hints = _signature(make)
    if only_known and (unknown := [name for name in values if name not in hints]):
        raise InputError(f"unknown key {shown(inside + str(unknown[0]))}; known: {', '.join(hints)}")
    if missing := [name for name in needed if name not in values]:
        raise InputError(f"{inside}{missing[0]} is missing")
    return {name: fit(hint, values[name], inside + name, only_known) for name, hint in hints.items() if name in values}


@cache
def _signature(make: Callable[..., Any]) -> tuple[list[str], dict[str, Any]]:
    """The parameters that must be given, and the annotations of all."""
    parameters = inspect.signature(make).parameters
    hints = get_type_hints(make if is_dataclass(make) else make.__init__, include_extras=True)  # type: ignore[misc]
    needed = [name for name, each in parameters.items() if each.default is each.empty]
    return needed, {name: hints[name] for name in parameters}


def fit(hint: Any, value: Any, key: str, only_known: bool = True) -> Any:
    """A value as an annotation has it: whole numbers become floats, lists tuples, texts paths where those are asked.

    Raises WrongValue where it does not fit.
    """
    kind, *rules = get_args(hint) if get_origin(hint) is Annotated else (hint, *[FINITE] * (hint is float))
    value = _of_kind(kind, value, key, only_known, hint)
    if value is not None and not all(rule.holds(value) for rule in rules):
        raise WrongValue(key, value, wanted(hint))
    return value


def _of_kind(hint: Any, value: Any, key: str, only_known: bool, whole: Any) -> Any:
    """`fit` without a range. whole: the annotation with its range, for a message."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return _fit_one(parts, value, key, only_known)
    if origin is Literal and isinstance(value, str) and value in parts:
        return value
    if origin in LISTS and isinstance(value, list | tuple) and len(value) <= LONGEST:
        inner = parts if origin is tuple and parts[-1] is not ... else parts[:1] * len(value)
        if len(inner) == len(value):
            entries = zip(inner, value, strict=True)
            made = [fit(each, entry, f"{key}[{at}]", only_known) for at, (each, entry) in enumerate(entries)]
            return tuple(made) if origin is tuple else made
    if origin is dict and isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: fit(parts[1], entry, f"{key}.{name}", only_known) for name, entry in value.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return checked(hint, value, only_known, key)
    if hint is float and type(value) is int and abs(value) < sys.float_info.max:
        return float(value)
    if hint is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    if isinstance(hint, type) and (type(value) is hint or hint is Path and isinstance(value, Path)):
        return value
    raise WrongValue(key, value, wanted(whole))


def _fit_one(choices: tuple[Any, ...], value: Any, key: str, only_known: bool) -> Any:
    """The first of several annotations that fits; where one alone is not None, its own complaint is the clearest."""
    if value is None and NoneType in choices:
        return None
    choices = tuple(choice for choice in choices if choice is not NoneType)
    for choice in choices:
        try:
            return fit(choice, value, key, only_known)
        except InputError:
            if len(choices) == 1:
                raise
    raise WrongValue(key, value, " or ".join(map(wanted, choices)))


def wanted(hint: Any) -> str:
    """An annotation in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        size = "" if parts[0] in (int, float) else "of length "
        return " ".join([wanted(parts[0]), *(f"{size}{rule}" for rule in parts[1:])])
    if origin in (Union, UnionType):
        return " or ".join(wanted(part) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if origin is tuple and parts[-1] is not ...:
        return f"a list of {len(parts)}"
    if origin in LISTS:
        return f"a list (each {wanted(parts[0])})"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}
    return {**words, NoneType: "none"}.get(hint, "an object with keys")
