"""TOML files of options: one way to read them, and one for the paths in them."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from .checked import shown
from .errors import InputError, in_one_line, meant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


LARGEST = 2**18  # bytes of a file
MOST_DOTS = 100  # in a line, outside of its texts
STRINGS = re.compile(r'"""(?:[^\\]|\\.)*?"""|"(?:[^"\\\n]|\\.)*"|' + r"'''.*?'''|'[^'\n]*'", re.DOTALL)


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file by name. Raises InputError if it cannot be read, is not TOML or has no end."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise InputError(f"{path}: has more than {LARGEST} bytes, too many for a file of options")
        return _parse(content.decode())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except RecursionError:
        raise InputError(f"{path}: not usable TOML (nested too deeply)") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not valid TOML ({error})") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: not valid TOML ({in_one_line(error)})") from error


def _parse(text: str) -> dict[str, Any]:
    """tomllib's time grows with the square of a key's parts: 60,000 take minutes. No option has any."""
    if any(line.count(".") > MOST_DOTS for line in STRINGS.sub("", text).splitlines()):
        raise ValueError(f"more than {MOST_DOTS} dots in a line")
    return tomllib.loads(text)


def toml_value(text: str) -> Any:
    """A value in TOML's own notation; what is none is a text as it stands."""
    try:
        return _parse(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def refuse_unknown(source: object, names: Iterable[str], known: Collection[str]) -> None:
    """Raises InputError for a name of an option that is not `known`. source: what gave it, named in the message."""
    if unknown := sorted(set(names) - set(known)):
        hint = meant(unknown[0], known) or f"; known: {', '.join(known)}"
        raise InputError(f"{source}: unknown option {shown(unknown[0])}{hint}")


def path_beside(path: Path, text: str, may_be_name: bool) -> str:
    """A path that stands in the file `path`: it is relative to the folder of that file.

    may_be_name: the text may also be the name of a model, and is one where there is no such path.
    """
    beside = path.parent / text
    return text if may_be_name and not beside.exists() else str(beside)
