"""Files in work: a hidden folder beside the target, locked while its process lives, and removed by the next run where
that process was killed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX, SUFFIX = ".jointdit-", ".partial"
LOCK = ".jointdit-lock"


@contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """A new hidden folder in `parent`, removed when the block ends, however it does.

    Folders that killed processes left in `parent` are removed, once in the life of a process. The system frees the lock
    of a process that dies, so that one in work, of whatever process, is never taken for a leftover.
    """
    remove_leftovers(parent)
    folder, lock = _name(parent)
    try:  # first of all: Ctrl-C and SIGTERM come between any two lines
        while not _claim(folder, lock):
            folder, lock = _name(parent)
        yield folder
    finally:
        try:
            _discard(folder, lock)
        except KeyboardInterrupt:
            _discard(folder, lock)
            raise


def _discard(folder: Path, lock: FileLock) -> None:
    lock.release()  # Windows deletes no file that is open
    shutil.rmtree(folder, ignore_errors=True)


def is_partial(path: Path) -> bool:
    """Whether a file lies in such a folder."""
    return any(name.startswith(PREFIX) and name.endswith(SUFFIX) for name in path.parts)


def _name(parent: Path) -> tuple[Path, FileLock]:
    """A folder that is not there yet, and its lock."""
    folder = parent / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
    return folder, FileLock(folder / LOCK, timeout=0)


def _claim(folder: Path, lock: FileLock) -> bool:
    """Makes the folder and locks it; False where another process took it for a leftover before it was locked."""
    folder.mkdir(mode=0o700)
    try:
        lock.acquire()
    except NotImplementedError:  # a file system without locks: nobody can tell what is left over there
        return True
    except (Timeout, FileNotFoundError, FileExistsError):
        return False
    return (folder / LOCK).exists()


@lru_cache(maxsize=1024)
def remove_leftovers(parent: Path) -> None:
    """Removes what killed processes left in a folder. Once a process: a folder may hold very many files."""
    for folder in parent.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(Timeout, OSError, NotImplementedError):
            _remove(folder)


def _remove(folder: Path) -> None:
    """Removes a folder that nobody has locked."""
    try:
        folder.rmdir()  # who has just made it and did not lock it yet makes it again, or another one
    except FileNotFoundError:
        return  # or the lock would make it again
    except OSError:  # it is not empty
        with FileLock(folder / LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)  # Windows deletes no file that is open
