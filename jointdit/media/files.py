"""Checks of the files that are read, and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from safetensors import SafetensorError

from ..errors import InputError
from .partials import partial_folder


def source_file(path: str | PathLike[str]) -> Path:
    """The absolute path of a file that exists, can be opened and is not empty; InputError otherwise."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise InputError(f"{path}: this is a pipe or a device; save what it gives as a file first")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a directory; name a file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise InputError(f"{str(path)!r}: cannot be opened ({_reason(error)}); name another file") from None
    if empty:
        raise InputError(f"{path}: the file is empty; name another file")
    return Path(path).absolute()


def target_file(path: str | PathLike[str], overwrite: bool = True) -> Path:
    """The absolute path of a file that can be written, now or later; InputError otherwise.

    Where `path` is a symbolic link, it is the file that the link names. Refused are directories, pipes and devices,
    names in a directory that is missing or may not be written, and, unless `overwrite`, files that exist. Nothing is
    created at `path`.
    """
    target = _target(path, overwrite)
    with _refusals(path), partial_folder(target.parent):
        return target


def refuse_sources(path: str | PathLike[str], sources: Iterable[str | PathLike[str] | None]) -> None:
    """Raises InputError if writing `path` would replace one of the files that are read, by whatever name."""
    for source in sources:
        if source is not None and os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise InputError(f"{path}: this is a file that is read ({source}); choose another name for what is written")


@contextmanager
def whole_file(path: str | PathLike[str], overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` if the block succeeds and is deleted if it does not.

    Any exception counts, KeyboardInterrupt too; after a kill the next run deletes it. Through a symbolic link, the file
    that it names is replaced. Raises InputError as `target_file` does, and for a full disk.
    """
    target = _target(path, overwrite)
    with _refusals(path), partial_folder(target.parent) as folder:
        temporary = folder / target.name
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask has it; some writers replace the file by a private one
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, target)


def write_json(path: str | PathLike[str], content: object) -> None:
    """Writes a JSON file, which appears whole or not at all. Raises InputError as `whole_file` does."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _target(path: str | PathLike[str], overwrite: bool) -> Path:
    if "\0" in str(path):
        raise InputError(f"{str(path)!r}: no file can have a zero byte in its name; choose another one")
    target = Path(os.path.realpath(path))
    if os.path.isdir(target):
        raise InputError(f"{path}: this is a directory; add a file name to it")
    if os.path.exists(target) and not os.path.isfile(target):
        raise InputError(f"{path}: this is a pipe or a device; name a file")
    if not os.path.isdir(target.parent):
        raise InputError(f"{path}: the directory {target.parent} does not exist; create it or choose another one")
    if not overwrite and os.path.lexists(path):
        raise InputError(f"{path}: the file exists; choose another name or allow overwriting")
    with _refusals(path), suppress(FileNotFoundError):
        os.stat(target)  # refuses a name that is too long
    return target


@contextmanager
def _refusals(path: str | PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        if (reason := system_reason(error)) is None:
            raise
        raise InputError(f"{path}: cannot be written ({reason}); choose another place") from error


def system_reason(error: Exception) -> str | None:
    """What the system says in an error, also in one of safetensors, which has it in its text; None if it is no such."""
    if isinstance(error, SafetensorError):
        number = re.search(r"\(os error (\d+)\)", str(error))
        return os.strerror(int(number[1])).lower() if number else None
    return _reason(error) if isinstance(error, OSError) else None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
