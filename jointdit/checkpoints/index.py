"""Which folders are models, by the file that says so. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..checked import read_object, shown
from ..errors import InputError
from .components import INDEX

BUNDLED = {"tiny": Path(__file__).parents[1] / "tiny"}


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json` of a JointDiT folder."""
    path = folder / INDEX
    index = read_object(path, "a JointDiT model folder has this file")
    if (described := index.get("_class_name")) != "JointDiTPipeline":
        raise InputError(f"{path}: describes a {shown(described)}, not a JointDiTPipeline")
    return index
