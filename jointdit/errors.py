"""Errors that a user can correct."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Input that cannot be used. Its message is one line: the file or option, the offending value, and the remedy."""


def some(names: list[str]) -> str:
    """The first few of many names, for a message."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def meant(name: str, known: Iterable[str], before: str = "") -> str:
    """The end of a message about a mistyped name: which of the known ones, with `before` before it, may have been
    meant; empty where none is like it."""
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {before}{near[0]}?" if near else ""


def in_one_line(text: object, longest: int = 300) -> str:
    """A value, or the message of another library's error, for one line of ours: without line breaks, what a terminal
    would act upon or cannot show escaped, and not without end: of what is longer, the middle is left out."""
    line = " ".join(str(text).split()) or (type(text).__name__ if isinstance(text, BaseException) else "")
    line = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
    if len(line) <= longest:
        return line
    return f"{line[: longest - longest // 3]} [...] {line[-(longest // 3) :]}"
