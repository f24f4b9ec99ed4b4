"""Fetching published models, checked and resumable.

Files arrive under their checksums, in the Hugging Face cache or in a hidden folder beside the target, and resume where
they stopped. Only when all are there and right does the model appear: linked in the cache, or by one rename.

huggingface_hub knows the hub, the token and its cache. Its own `hf_hub_download` begins an interrupted file again and
compares no checksum, so the bytes come through its `http_get`.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HTTPError
from huggingface_hub.file_download import http_get

from ..errors import InputError
from .hub import RESUME, Download, File, explained, headers, in_bytes, partial_file, pieces, size_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Report = Callable[[int, int], None]  # bytes that are here, bytes in all
PIECE = 1 << 20  # bytes that are read, written and reported at once


def check_place(*downloads: Download) -> None:
    """Raises InputError if something else stands where a model should go, or if the disk has no room for them all."""
    for download in downloads:
        if not download.in_cache and os.path.lexists(download.target) and not download.is_complete:
            lacks = next(file.path for file in download.files if size_of(download.home(file)) != file.size)
            raise InputError(f"{download.target}: exists, but not with {lacks} as published; move it away first")
    missing = sum(download.missing for download in downloads)
    disk = next(path for path in downloads[0].store.parents if path.exists())
    if missing > (free := shutil.disk_usage(disk).free):
        raise InputError(
            f"{disk}: {in_bytes(free)} are free, but {in_bytes(missing)} are needed; make room or choose another place"
        )


def fetch(download: Download, report: Report = lambda here, total: None) -> Path:
    """Brings the model to its target and returns that. What is already here is not fetched again.

    Raises InputError for a refusal, a broken connection, a file that is not as the hub announced it, a full disk.
    Whatever happens, what has arrived stays for the next call, and nothing is at the target before all of it is.
    """
    if download.is_complete:
        if not download.in_cache:
            shutil.rmtree(download.store, ignore_errors=True)  # a kill after the rename leaves it
        return download.target
    check_place(download)
    with explained(download.endpoint, download.repository, download.store), pieces(PIECE):
        download.store.mkdir(parents=True, exist_ok=True)
        for file in download.files:
            others = sum(map(download.arrived, download.files)) - download.arrived(file)
            _receive(download, file, lambda size, others=others: report(others + size, download.size))
        if download.in_cache:
            _link(download)
        else:
            _assemble(download)
    return download.target


def _receive(download: Download, file: File, report: Callable[[int], None]) -> None:
    """One file into the store, from where its partial file ends; it is there only with the right size and checksum."""
    whole = download.store / file.checksum
    if whole.exists():
        return
    arriving = partial_file(whole)
    arriving.touch()
    while (start := size_of(arriving)) < file.size:
        try:
            with _Sink(arriving, file.size, report) as sink:
                http_get(download.url(file), sink, resume_size=start, headers=headers())
            break
        except _TooMuch:
            break
        except (OSError, HTTPError) as error:
            response = getattr(error, "response", None)
            if response is not None and response.status_code == 416:
                break  # the hub's file is no longer than what is here: not what it announced
            if size_of(arriving) <= start:  # it tries again for as long as each connection brings something
                raise
    size = size_of(arriving)
    if size != file.size or _checksum(arriving, file) != file.checksum:
        arriving.unlink()
        wrong = "its checksum is wrong" if size == file.size else f"{size} bytes came instead of {file.size}"
        raise InputError(f"{download.repository}/{file.path}: {wrong}; it was deleted, and {RESUME}")
    os.replace(arriving, whole)


class _TooMuch(Exception):
    """The hub sends more than the file that it announced, perhaps without end."""


class _Sink(io.FileIO):
    """The end of a file, unbuffered: what was received before an error is in it. Reports its length.

    Raises _TooMuch once it has more than `most` bytes.
    """

    def __init__(self, path: Path, most: int, report: Callable[[int], None]) -> None:
        super().__init__(path, "a")
        self._most, self._report = most, report

    def write(self, data: ReadableBuffer) -> int:
        rest = memoryview(data)
        size = rest.nbytes
        while rest:
            rest = rest[super().write(rest) :]
            if self.tell() > self._most:
                raise _TooMuch
            self._report(self.tell())
        return size


def _assemble(download: Download) -> None:
    """Moves the files from the store to the target, which appears by one rename."""
    last = {file.checksum: file for file in download.files}
    whole = download.store / download.target.name
    for file in download.files:
        path = whole / download.home(file).relative_to(download.target)
        path.parent.mkdir(parents=True, exist_ok=True)
        if file is last[file.checksum]:
            os.replace(download.store / file.checksum, path)
        else:
            shutil.copyfile(download.store / file.checksum, path)
    os.rename(whole, download.target)
    shutil.rmtree(download.store, ignore_errors=True)


def _link(download: Download) -> None:
    """Lets huggingface_hub find the files, which are in its cache already, in a snapshot of the repository."""
    revision = download.commit if download.pinned else None
    for file in download.files:
        path = hf_hub_download(download.repository, file.path, revision=revision, endpoint=download.endpoint)
        if Path(path) != download.home(file):
            raise InputError(f"{download.repository}: changed while it was fetched; give the same command again")


def _checksum(path: Path, file: File) -> str:
    large = len(file.checksum) == 64
    digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % file.size)
    with path.open("rb") as stream:
        while block := stream.read(PIECE):
            digest.update(block)
    return digest.hexdigest()
