"""What `jointdit evaluate` needs for synthetic scenes: pictures for them, and a folder that keeps the clips."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    import numpy as np


def read_photos(folder: Path | None) -> list[np.ndarray]:
    """The pictures of a folder; none of no folder."""
    from ..media import read_image
    from ..synthetic.dataset import PHOTO_SUFFIXES

    if folder is None:
        return []
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not files:
        raise InputError(f"--photos {folder}: no picture there; give a folder with {', '.join(PHOTO_SUFFIXES)} files")
    return [read_image(path) for path in files]


@contextmanager
def clip_folder(keep: Path | None, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Where the clips go. A kept folder remembers what it was made with, and is refused for anything else."""
    if keep is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    keep.mkdir(parents=True, exist_ok=True)
    from ..media.files import write_json

    made_with = keep / "settings.json"
    wanted = json.loads(json.dumps({**settings, "clips": None}))  # more clips of the same kind may be added
    if not made_with.exists():
        write_json(made_with, wanted)
    elif _read_json(made_with) != wanted:
        raise InputError(f"--keep {keep}: its clips were made with other settings; name another folder")
    yield keep


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); name another folder") from error
