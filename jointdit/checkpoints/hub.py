"""What the hub has of a published model: files with their sizes and checksums, its licence, and who may have them."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import ModelInfo, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers, filter_repo_objects, validate_repo_id

from ..checked import parse_json, shown
from ..errors import InputError, in_one_line
from ..version import __version__
from .published import MODELS, needed_files

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

RESUME = "the same command resumes where it stopped"
PARTIAL = ".incomplete"  # as huggingface_hub calls partial files in its cache
COMMIT = re.compile(r"[0-9a-f]{40}")
CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
PLAIN = re.compile(r"([\w-][\w.-]*/)*[\w-][\w.-]*", re.ASCII)
LARGEST = 2**63  # bytes of a file
# What the hub says of a repository: a hundred bytes or two a file. It is taken in pieces, with a look at the clock.
REPLY_BYTES, REPLY_SECONDS, REPLY_PIECE = 32 * 10**6, 120.0, 256


class Unreachable(InputError):
    """There is no connection to the hub."""


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
    licence: "" where the hub tells none.    pinned: whether the commit is one that was chosen, not the newest.
    """

    repository: str
    single_file: str | None
    files: tuple[File, ...]
    commit: str
    licence: str
    gated: bool
    endpoint: str
    target: Path
    store: Path
    in_cache: bool
    pinned: bool = False

    @property
    def page(self) -> str:
        return f"{self.endpoint}/{self.repository}"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> int:
        """Bytes that are not here yet."""
        return 0 if self.is_complete else sum(file.size - self.arrived(file) for file in self.files)

    @property
    def is_complete(self) -> bool:
        return all(size_of(self.home(file)) == file.size for file in self.files)

    def home(self, file: File) -> Path:
        """Where the file ends up."""
        return self.target if file.path == self.single_file else self.target / file.path

    def url(self, file: File) -> str:
        """Where the hub serves the file."""
        return hf_hub_url(self.repository, file.path, revision=self.commit, endpoint=self.endpoint)

    def arrived(self, file: File) -> int:
        """How much of the file is in the store."""
        whole = self.store / file.checksum
        return min(file.size, max(0, size_of(whole), size_of(partial_file(whole))))


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
    checkpoint = model.single_file if single_file else None
    if single_file and checkpoint is None:
        raise InputError(f"{name}: is not published as a single file; fetch it without --single-file")
    endpoint = endpoint or constants.ENDPOINT
    info = _ask(endpoint, model.repository, model.commit)
    files = _files(endpoint, info, needed_files(model, _paths(info), half, checkpoint))
    title = checkpoint or model.name
    cache = _cache(model.repository)
    if folder is None:
        snapshot = cache / "snapshots" / str(info.sha)
        target, store = snapshot / title if checkpoint else snapshot, cache / "blobs"
    else:
        target, store = folder.absolute() / title, folder.absolute() / f".{title}{PARTIAL}"
    card = info.card_data or {}
    licence = in_one_line(card.get("license_name") or card.get("license") or model.licence, 100)
    return Download(
        model.repository,
        checkpoint,
        files,
        str(info.sha),
        licence,
        bool(info.gated),
        endpoint,
        target,
        store,
        in_cache=folder is None,
        pinned=model.commit is not None,
    )


def look_up_repository(repository: str, patterns: list[str]) -> Download:
    """What the files of any repository take whose paths match, in the Hugging Face cache. Raises InputError as
    `look_up` does, and if nothing matches."""
    try:
        validate_repo_id(repository)
    except ValueError as error:
        raise InputError(f"{in_one_line(repository)}: not the name of a repository ({in_one_line(error)})") from error
    endpoint = constants.ENDPOINT
    info = _ask(endpoint, repository)
    files = _files(endpoint, info, sorted(filter_repo_objects(_paths(info), allow_patterns=patterns)))
    if not files:
        raise InputError(f"{repository}: has no model in diffusers' layout; give another name")
    cache = _cache(repository)
    target, store = cache / "snapshots" / str(info.sha), cache / "blobs"
    return Download(repository, None, files, str(info.sha), "", bool(info.gated), endpoint, target, store, True)


def _cache(repository: str) -> Path:
    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type="model"))


def _ask(endpoint: str, repository: str, commit: str | None = None) -> ModelInfo:
    """What the hub says of a repository, at its newest commit or at another one. Raises InputError for an answer that
    is none, or has no end."""
    reply = _Reply()
    at = f"/revision/{commit}" if commit else ""
    with explained(endpoint, repository):
        try:
            with pieces(REPLY_PIECE):
                http_get(f"{endpoint}/api/models/{repository}{at}?blobs=true", reply, headers=headers(), _nb_retries=0)
            info = ModelInfo(**parse_json(reply.getvalue()))
            if info.sha is None or info.siblings is None:
                raise ValueError("no commit or no files")
            if not COMMIT.fullmatch(info.sha):  # it becomes the name of a folder
                raise ValueError(f"{shown(info.sha)} is no commit")
            if commit not in (None, info.sha):
                raise ValueError(f"{info.sha} where {commit} was asked for")
            _paths(info)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            told = in_one_line(error if isinstance(error, InputError) else repr(error))
            raise InputError(f"{endpoint}: does not answer as the Hugging Face Hub does ({told})") from error
    return info


class _Reply(io.BytesIO):
    """What the hub says. Raises InputError where it does not come to an end."""

    def __init__(self) -> None:
        super().__init__()
        self._end = time.monotonic() + REPLY_SECONDS

    def write(self, data: ReadableBuffer) -> int:
        size = super().write(data)
        if self.tell() > REPLY_BYTES:
            raise InputError(f"a list of files of more than {in_bytes(REPLY_BYTES)}")
        if time.monotonic() > self._end:
            raise InputError(f"a list of files that takes more than {REPLY_SECONDS:g} seconds")
        return size


def _paths(info: ModelInfo) -> list[str]:
    """A path that is written in an unusual way is another one, or none; what is needed has none such."""
    return [entry.rfilename for entry in info.siblings or () if PLAIN.fullmatch(entry.rfilename)]


def _files(endpoint: str, info: ModelInfo, paths: list[str]) -> tuple[File, ...]:
    """The files at these paths. Raises InputError for one whose size and checksum are not told."""
    entries = {entry.rfilename: entry for entry in info.siblings or ()}
    files = []
    for path in paths:
        entry = entries[path]
        checksum = entry.lfs["sha256"] if entry.lfs else entry.blob_id
        size = entry.size if type(entry.size) is int and 0 <= entry.size < LARGEST else None
        if size is None or not isinstance(checksum, str) or not CHECKSUM.fullmatch(checksum):
            remedy = f"; {_log_in(endpoint, info.id)}" if info.gated else ""
            raise InputError(f"{endpoint}: does not tell size and checksum of {info.id}/{path}{remedy}")
        files.append(File(path, size, checksum))
    return tuple(files)


def check_access(download: Download) -> None:
    """Raises InputError if this user may not have the files, or not before accepting their licence."""
    with explained(download.endpoint, download.repository):
        get_hf_file_metadata(download.url(download.files[0]), library_name="jointdit", library_version=__version__)


@contextmanager
def explained(endpoint: str, repository: str, store: Path | None = None) -> Iterator[None]:
    """Turns errors of huggingface_hub, of its connections and of the disk into one line each."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise InputError(f"{repository}: access is refused ({status}); {_log_in(endpoint, repository)}") from error
        if status == 404:
            raise InputError(f"{repository}: the hub does not have it (404 for {error.response.url})") from error
        raise InputError(f"{endpoint}: answers with error {status}; try again later, {RESUME}") from error
    except (OSError, HTTPError) as error:
        if isinstance(error, OSError) and error.strerror is not None:  # only errors of the file system have one here
            raise InputError(
                f"{error.filename or store}: cannot be written ({error.strerror.lower()}); correct that or choose "
                f"another place; {RESUME}"
            ) from error
        raise Unreachable(f"{endpoint}: the connection failed ({error or type(error).__name__}); {RESUME}") from error


def _log_in(endpoint: str, repository: str) -> str:
    return f"accept the licence on {endpoint}/{repository}, and log in with: hf auth login"


def headers() -> dict[str, str]:
    """Of every request."""
    # A transfer that is compressed on the way could not resume in the middle of the file.
    identity = {"Accept-Encoding": "identity"}
    return build_hf_headers(library_name="jointdit", library_version=__version__, headers=identity)


@contextmanager
def pieces(size: int) -> Iterator[None]:
    """`http_get` hands over pieces of so many bytes. Of its own, 10 MiB each, a broken connection would lose the
    last."""
    before = constants.DOWNLOAD_CHUNK_SIZE
    constants.DOWNLOAD_CHUNK_SIZE = size
    try:
        yield
    finally:
        constants.DOWNLOAD_CHUNK_SIZE = before


def partial_file(whole: Path) -> Path:
    """Where the beginning of a file in the store is until the rest has arrived."""
    return whole.with_name(whole.name + PARTIAL)


def size_of(path: Path) -> int:
    """Bytes of a file; -1, no file's size, if there is none."""
    return path.stat().st_size if path.is_file() else -1


def in_bytes(size: int) -> str:
    """A number of bytes to read."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"
