"""What made a clip, as text in its file: a comment in .mp4, .webm and .gif, a description in an animated .webp."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import av
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from .files import source_file

KEY = "jointdit"  # of the version, which tells such a comment from others
LONGEST = 64 * 1024  # bytes of a comment that is read
DESCRIPTION = 0x010E  # EXIF's ImageDescription
ANIMATIONS = (".gif", ".webp")


def recipe_text(version: str, options: Mapping[str, Any]) -> str:
    """What is written into a file."""
    return json.dumps({KEY: version, "options": dict(options)}, ensure_ascii=True, sort_keys=True)


def read_recipe(path: str | PathLike[str]) -> dict[str, Any]:
    """The options in a clip, which anyone may have written: names and values are still to be checked.

    Raises InputError for a file that cannot be read, or that has none.
    """
    text = _animation_comment(path) if Path(path).suffix.lower() in ANIMATIONS else _video_comment(path)
    if len(text) > LONGEST:
        raise InputError(f"{path}: its comment has {len(text)} characters, which no clip of this program has")
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError):
        recipe = None
    options = recipe.get("options") if isinstance(recipe, dict) and KEY in recipe else None
    if not isinstance(options, dict):
        raise InputError(f"{path}: does not say how it was made; name a clip that jointdit generate has written")
    return options


def _video_comment(path: str | PathLike[str]) -> str:
    try:
        with av.open(str(source_file(path)), metadata_errors="replace") as container:
            named = {name.lower(): value for name, value in container.metadata.items()}
    except av.FFmpegError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: not a readable video file ({reason}); name another file") from error
    return named.get("comment", "")


def _animation_comment(path: str | PathLike[str]) -> str:
    try:
        with Image.open(source_file(path), formats=("GIF", "WEBP")) as image:
            found = image.info.get("comment") or image.getexif().get(DESCRIPTION) or ""
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable picture; name another file") from error
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
