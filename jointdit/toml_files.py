"""TOML files of options: one way to read them, and one for the paths in them."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from .errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file by name. Raises InputError if it cannot be read or is not TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid TOML ({error})") from error


def toml_value(text: str) -> Any:
    """A value in TOML's own notation; what is none is a text as it stands."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def refuse_unknown(source: object, names: Iterable[str], known: Collection[str]) -> None:
    """Raises InputError for a name of an option that is not `known`. source: what gave it, named in the message."""
    if unknown := sorted(set(names) - set(known)):
        raise InputError(f"{source}: unknown option {unknown[0]!r}; known: {', '.join(known)}")


def path_beside(path: Path, text: str, may_be_name: bool) -> str:
    """A path that stands in the file `path`: it is relative to the folder of that file.

    may_be_name: the text may also be the name of a model, and is one where there is no such path.
    """
    beside = path.parent / text
    return text if may_be_name and not beside.exists() else str(beside)
