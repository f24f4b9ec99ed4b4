"""Fetching published models: what the hub has, what of it is missing here, and the way of the bytes.

Files arrive under their checksums, in the Hugging Face cache or in a hidden folder beside the target, and go on where
they stopped. Only when all are there and right does the model appear: linked in the cache, or by one rename.

huggingface_hub knows the hub, the token and its cache. Its own `hf_hub_download` begins an interrupted file again and
compares no checksum, so the bytes come through its `http_get`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers

from ..errors import InputError
from ..version import __version__
from .published import MODELS, Published, needed_files

Report = Callable[[int, int], None]  # bytes that are here, bytes in all
GOES_ON = "the same command goes on where it stopped"
PARTIAL = ".incomplete"  # as huggingface_hub calls partial files in its cache
CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
PIECE = 1 << 20  # bytes that are read, written and reported at once


@dataclass(frozen=True)
class File:
    """A file of a repository. checksum: SHA-256 if it is in large file storage, else Git's SHA-1 of the blob."""

    path: str
    size: int
    checksum: str


@dataclass(frozen=True)
class Download:
    """What a model takes, at one commit of its repository, and where it goes.

    target: the model's folder or single file, once it is complete.    store: where its files gather until then.
    """

    model: Published
    files: tuple[File, ...]
    commit: str
    licence: str
    gated: bool
    endpoint: str
    target: Path
    store: Path
    in_cache: bool

    @property
    def page(self) -> str:
        return f"{self.endpoint}/{self.model.repository}"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> int:
        """Bytes that are not here yet."""
        return 0 if self.is_complete else sum(file.size - self.arrived(file) for file in self.files)

    @property
    def is_complete(self) -> bool:
        return all(_size(self.home(file)) == file.size for file in self.files)

    def home(self, file: File) -> Path:
        """Where the file ends up."""
        return self.target if file.path == self.model.single_file else self.target / file.path

    def arrived(self, file: File) -> int:
        """How much of the file is in the store."""
        whole = self.store / file.checksum
        return min(file.size, max(0, _size(whole), _size(_arriving(whole))))


def look_up(
    name: str, folder: Path | None = None, half: bool = True, single_file: bool = False, endpoint: str | None = None
) -> Download:
    """Asks the hub what `MODELS[name]` takes: the files with their sizes and checksums, and the licence.

    folder: where the model goes, under its published name; the Hugging Face cache if None.
    half: weights in half precision where they are published so.    single_file: the checkpoint in one file instead.
    endpoint: the hub; huggingface_hub's own default, which HF_ENDPOINT changes, if None.
    Raises InputError if the hub cannot be reached or does not have the model as it is known here.
    """
    model = MODELS[name]
    if single_file and model.single_file is None:
        raise InputError(f"{name}: is not published as a single file; fetch it without --single-file")
    api = HfApi(endpoint=endpoint, library_name="jointdit", library_version=__version__)
    with _explained(api.endpoint, model.repository):
        try:
            info = api.model_info(model.repository, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            found = {entry.rfilename: entry for entry in info.siblings}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{api.endpoint}: does not answer as the Hugging Face Hub does ({error!r})") from error
    files = []
    for path in needed_files(model, found, half, single_file):
        checksum = found[path].lfs["sha256"] if found[path].lfs else found[path].blob_id
        if not isinstance(found[path].size, int) or not CHECKSUM.fullmatch(str(checksum)):
            remedy = f"; {_log_in(api.endpoint, model.repository)}" if info.gated else ""
            raise InputError(f"{api.endpoint}: does not tell size and checksum of {model.repository}/{path}{remedy}")
        files.append(File(path, found[path].size, checksum))

    title = model.single_file if single_file else model.name
    cache = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=model.repository, repo_type="model"))
    if folder is None:
        snapshot = cache / "snapshots" / info.sha
        target, store = snapshot / title if single_file else snapshot, cache / "blobs"
    else:
        target, store = folder.absolute() / title, folder.absolute() / f".{title}{PARTIAL}"
    card = info.card_data or {}
    licence = card.get("license_name") or card.get("license") or model.licence
    return Download(
        model, tuple(files), info.sha, licence, bool(info.gated), api.endpoint, target, store, in_cache=folder is None
    )


def check_access(download: Download) -> None:
    """Raises InputError if this user may not have the files, or not before accepting their licence."""
    with _explained(download.endpoint, download.model.repository):
        get_hf_file_metadata(_url(download, download.files[0]), library_name="jointdit", library_version=__version__)


def check_place(*downloads: Download) -> None:
    """Raises InputError if something else stands where a model should go, or if the disk has no room for them all."""
    for download in downloads:
        if not download.in_cache and os.path.lexists(download.target) and not download.is_complete:
            lacks = next(file.path for file in download.files if _size(download.home(file)) != file.size)
            raise InputError(f"{download.target}: exists, but not with {lacks} as published; move it away first")
    missing = sum(download.missing for download in downloads)
    disk = next(path for path in downloads[0].store.parents if path.exists())
    if missing > (free := shutil.disk_usage(disk).free):
        raise InputError(
            f"{disk}: {in_bytes(free)} are free, but {in_bytes(missing)} are needed; make room or choose another place"
        )


def fetch(download: Download, report: Report = lambda here, total: None) -> Path:
    """Brings the model to its target and returns that. What is here of it already is not fetched again.

    Raises InputError for a refusal, a broken connection, a file that is not as the hub announced it, a full disk.
    Whatever happens, what has arrived stays for the next call, and nothing is at the target before all of it is.
    """
    if download.is_complete:
        return download.target
    check_place(download)
    with _explained(download.endpoint, download.model.repository, download.store), _small_pieces():
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
    arriving = _arriving(whole)
    arriving.touch()
    while (start := _size(arriving)) < file.size:
        try:
            with _Sink(arriving, report) as sink:
                http_get(_url(download, file), sink, resume_size=start, headers=_headers())
            break
        except (OSError, HTTPError) as error:
            if getattr(error, "response", None) is not None and error.response.status_code == 416:
                break  # the hub's file is no longer than what is here: not what it announced
            if _size(arriving) <= start:  # it goes on for as long as each connection brings something
                raise
    size = _size(arriving)
    if size != file.size or _checksum(arriving, file) != file.checksum:
        arriving.unlink()
        wrong = "its checksum is wrong" if size == file.size else f"{size} bytes came instead of {file.size}"
        raise InputError(f"{download.model.repository}/{file.path}: {wrong}; it was deleted, and {GOES_ON}")
    os.replace(arriving, whole)


class _Sink(io.FileIO):
    """The end of a file, unbuffered: what was received before an error is in it. Reports its length."""

    def __init__(self, path: Path, report: Callable[[int], None]) -> None:
        super().__init__(path, "a")
        self._report = report

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
            self._report(self.tell())
        return len(data)


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
    for file in download.files:
        path = hf_hub_download(download.model.repository, file.path, endpoint=download.endpoint)
        if Path(path) != download.home(file):
            raise InputError(f"{download.model.repository}: changed while it was fetched; give the same command again")


@contextmanager
def _small_pieces() -> Iterator[None]:
    """`http_get` hands over whole pieces. Of its own, 10 MiB each, a broken connection would lose the last."""
    before = constants.DOWNLOAD_CHUNK_SIZE
    constants.DOWNLOAD_CHUNK_SIZE = PIECE
    try:
        yield
    finally:
        constants.DOWNLOAD_CHUNK_SIZE = before


@contextmanager
def _explained(endpoint: str, repository: str, store: Path | None = None) -> Iterator[None]:
    """Turns the errors of huggingface_hub, of its connections and of the disk into one line each."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise InputError(f"{repository}: access is refused ({status}); {_log_in(endpoint, repository)}") from error
        if status == 404:
            raise InputError(f"{repository}: the hub does not have it (404 for {error.response.url})") from error
        raise InputError(f"{endpoint}: answers with error {status}; try again later, {GOES_ON}") from error
    except (OSError, HTTPError) as error:
        if getattr(error, "errno", None) is not None:  # only errors of the file system have one here
            raise InputError(
                f"{error.filename or store}: cannot be written ({error.strerror.lower()}); mend that or choose another "
                f"place; {GOES_ON}"
            ) from error
        raise InputError(f"{endpoint}: the connection failed ({error or type(error).__name__}); {GOES_ON}") from error


def _log_in(endpoint: str, repository: str) -> str:
    return f"accept the licence on {endpoint}/{repository}, and log in with: hf auth login"


def _url(download: Download, file: File) -> str:
    return hf_hub_url(download.model.repository, file.path, revision=download.commit, endpoint=download.endpoint)


def _headers() -> dict[str, str]:
    # Unpacked on the way, a file could not go on from a byte of it.
    identity = {"Accept-Encoding": "identity"}
    return build_hf_headers(library_name="jointdit", library_version=__version__, headers=identity)


def _checksum(path: Path, file: File) -> str:
    large = len(file.checksum) == 64
    digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % file.size)
    with path.open("rb") as stream:
        while block := stream.read(PIECE):
            digest.update(block)
    return digest.hexdigest()


def _arriving(whole: Path) -> Path:
    return whole.with_name(whole.name + PARTIAL)


def _size(path: Path) -> int:
    """Bytes of a file; -1, no file's size, if there is none."""
    return path.stat().st_size if path.is_file() else -1


def in_bytes(size: int) -> str:
    """A number of bytes to read."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"
