"""Model folders, as the nodes ask ComfyUI for them. A test points `models_dir` at its own folder."""

from __future__ import annotations

import os

models_dir = os.path.join(os.path.dirname(__file__), "no-models")
_extra: dict[str, list[str]] = {}


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    _extra.setdefault(folder_name, [])


def get_folder_paths(folder_name: str) -> list[str]:
    return [os.path.join(models_dir, folder_name), *_extra.get(folder_name, [])]
