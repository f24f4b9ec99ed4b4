"""What a job saved, and where that goes here: names come from the server, and nothing is written by them unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PureWindowsPath
from typing import Any

from ..checked import shown
from ..errors import InputError
from .replies import SavedFile, fitting

MOST_FILES = 1000
MOST_TEXT = 10_000  # characters of a text that a node shows
# Names that Windows keeps for devices, with any ending.
DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))}


def saved_files(outputs: Mapping[str, Mapping[str, Any]], place: str) -> list[SavedFile]:
    """The saved files of all outputs, each once. Raises InputError that names the place for too many."""
    files = list(dict.fromkeys(_listed(outputs, place)))
    if len(files) > MOST_FILES:
        raise InputError(f"{place}: names {len(files)} files; at most {MOST_FILES} are taken")
    return files


def _listed(outputs: Mapping[str, Mapping[str, Any]], place: str) -> Iterator[SavedFile]:
    for node in outputs.values():
        for entries in node.values():
            for entry in entries if isinstance(entries, list) else ():
                if isinstance(entry, dict) and entry.get("type") == "output" and "filename" in entry:
                    yield fitting(SavedFile, entry, place)


def shown_texts(outputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What nodes such as Preview as Text show, without what a terminal would act upon."""
    texts = [text for node in outputs.values() if isinstance(found := node.get("text"), list) for text in found]
    return [_printable(str(text)[:MOST_TEXT]) for text in texts if isinstance(text, str | int | float | bool)]


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() or each in "\n\t" else " " for each in text)


def targets(files: list[SavedFile], folder: Path, overwrite: bool) -> dict[Path, SavedFile]:
    """Where each file goes: into `folder`, by its own name. Files of one name go into the subfolders that they have on
    the server.

    Raises InputError for a name that could be something else than a file in there, for two files in one place, and
    unless `overwrite` for a file that is there.
    """
    names = Counter(file.filename for file in files)
    places: dict[Path, SavedFile] = {}
    for file in files:
        target = folder / (_inside(file.subfolder) if names[file.filename] > 1 else "") / _plain(file.filename)
        if target in places:
            raise InputError(f"{target}: the server saved two files of this name; run one workflow at a time")
        places[target] = file
    if not overwrite and (there := [str(target) for target in places if target.exists() or target.is_symlink()]):
        raise InputError(
            f"{there[0]}: the file exists; add --overwrite, or choose another folder with --out (the server still has "
            "what the job saved)"
        )
    return places


def _is_plain(name: str) -> bool:
    """Whether this is the name of an ordinary, visible file or folder on every system."""
    return (
        0 < len(name.encode()) <= 200
        and name.isprintable()
        and not any(each in '/\\:*?"<>|' for each in name)
        and not name.startswith((".", "-"))
        and not name.endswith((".", " "))
        and name.partition(".")[0].strip().lower() not in DEVICES
    )


def _plain(name: str) -> str:
    if not _is_plain(name):
        raise InputError(f"the server saved a file as {shown(name)}; only plain file names are taken")
    return name


def _inside(subfolder: str) -> Path:
    """A subfolder of a server, which may run on Windows, as a path that stays inside a folder here."""
    path = PureWindowsPath(subfolder)
    return Path(*[_plain(part) for part in path.parts if part not in (path.anchor, "..")])


def own_folder(workflow: Path) -> Path:
    """A folder here that is not there yet, by the workflow's name."""
    stem = workflow.stem if _is_plain(workflow.stem) else "results"
    number = 1
    while (folder := Path(stem if number == 1 else f"{stem}-{number}")).exists() or folder.is_symlink():
        number += 1
    return folder


def remove_if_empty(folder: Path) -> None:
    """Takes back a folder that was made for nothing."""
    with suppress(OSError):
        folder.rmdir()
