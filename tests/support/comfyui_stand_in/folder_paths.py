"""Folders, as the nodes ask ComfyUI for them. A test points these at its own."""

from __future__ import annotations

import os

models_dir = os.path.join(os.path.dirname(__file__), "no-models")
input_directory = os.path.join(os.path.dirname(__file__), "no-input")
output_directory = os.path.join(os.path.dirname(__file__), "no-output")
_extra: dict[str, list[str]] = {}


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    _extra.setdefault(folder_name, [])


def get_folder_paths(folder_name: str) -> list[str]:
    return [os.path.join(models_dir, folder_name), *_extra.get(folder_name, [])]


def get_input_directory() -> str:
    return input_directory


def get_output_directory() -> str:
    return output_directory
