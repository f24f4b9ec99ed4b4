"""What the hub has of a published model: files with their sizes and checksums, its licence, and who may have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.file_download import repo_folder_name

from ..checked import shown
from ..errors import InputError, in_one_line
from ..version import __version__
from .published import MODELS, Published, needed_files

RESUME = "the same command resumes where it stopped"
PARTIAL = ".incomplete"  # as huggingface_hub calls partial files in its cache
COMMIT = re.compile(r"[0-9a-f]{40}")
CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
PLAIN = re.compile(r"([\w-][\w.-]*/)*[\w-][\w.-]*", re.ASCII)
LARGEST = 2**63  # bytes of a file


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
        return all(size_of(self.home(file)) == file.size for file in self.files)

    def home(self, file: File) -> Path:
        """Where the file ends up."""
        return self.target if file.path == self.model.single_file else self.target / file.path

    def url(self, file: File) -> str:
        """Where the hub serves the file."""
        return hf_hub_url(self.model.repository, file.path, revision=self.commit, endpoint=self.endpoint)

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
    api = HfApi(endpoint=endpoint, library_name="jointdit", library_version=__version__)
    with explained(api.endpoint, model.repository):
        try:
            info = api.model_info(model.repository, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            if info.sha is None or info.siblings is None:
                raise ValueError("no commit or no files")
            if not COMMIT.fullmatch(info.sha):  # it becomes the name of a folder
                raise ValueError(f"{shown(info.sha)} is no commit")
            # A path that is written in an unusual way is another one, or none; what is needed has none such.
            found = {entry.rfilename: entry for entry in info.siblings if PLAIN.fullmatch(entry.rfilename)}
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            told = in_one_line(repr(error))
            raise InputError(f"{api.endpoint}: does not answer as the Hugging Face Hub does ({told})") from error
    files = []
    for path in needed_files(model, found, half, checkpoint):
        entry = found[path]
        checksum = entry.lfs["sha256"] if entry.lfs else entry.blob_id
        size = entry.size if type(entry.size) is int and 0 <= entry.size < LARGEST else None
        if size is None or not isinstance(checksum, str) or not CHECKSUM.fullmatch(checksum):
            remedy = f"; {_log_in(api.endpoint, model.repository)}" if info.gated else ""
            raise InputError(f"{api.endpoint}: does not tell size and checksum of {model.repository}/{path}{remedy}")
        files.append(File(path, size, checksum))

    title = checkpoint or model.name
    cache = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=model.repository, repo_type="model"))
    if folder is None:
        snapshot = cache / "snapshots" / info.sha
        target, store = snapshot / title if checkpoint else snapshot, cache / "blobs"
    else:
        target, store = folder.absolute() / title, folder.absolute() / f".{title}{PARTIAL}"
    card = info.card_data or {}
    licence = in_one_line(card.get("license_name") or card.get("license") or model.licence, 100)
    return Download(
        model, tuple(files), info.sha, licence, bool(info.gated), api.endpoint, target, store, in_cache=folder is None
    )


def check_access(download: Download) -> None:
    """Raises InputError if this user may not have the files, or not before accepting their licence."""
    with explained(download.endpoint, download.model.repository):
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
        raise InputError(f"{endpoint}: the connection failed ({error or type(error).__name__}); {RESUME}") from error


def _log_in(endpoint: str, repository: str) -> str:
    return f"accept the licence on {endpoint}/{repository}, and log in with: hf auth login"


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
