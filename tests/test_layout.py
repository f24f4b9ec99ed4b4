"""Who may import whom: the folders of the library stand in one order, and nothing imports what stands above it."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Folders of jointdit/, lowest first: one may import those before it and those on its line. Below them all are the
# single files (errors, latents, ...), above them the package's face and the nodes.
ORDER = (
    ("media",),
    ("models", "synthetic", "comfyui", "datasets"),
    ("encoders",),
    ("diffusion",),
    ("checkpoints", "runtime"),
    ("pipeline",),
    ("evaluate",),
    ("train",),
    ("recipes", "ui", "cli"),
)
LEVELS = {folder: level for level, folders in enumerate(ORDER, start=1) for folder in folders}
LEVELS |= {path.stem: 0 for path in (ROOT / "jointdit").glob("*.py")}
LEVELS |= {"jointdit": len(ORDER) + 1, "__main__": len(ORDER) + 1}
ONLY = {"synthetic": {"errors", "media"}, "comfyui": {"errors", "checked", "media"}}  # these import nothing else
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "comfyui_version", "folder_paths", "server"}
LONGEST = 400  # lines of a file


def module_name(path: Path) -> str:
    """`jointdit.media.clip` of jointdit/media/clip.py; a folder is its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for top in ("jointdit", "nodes") for path in (ROOT / top).rglob("*.py")}
LIBRARY = [name for name in FILES if name.split(".")[0] == "jointdit"]


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that one names: at its top, inside functions, and for type checkers alone."""
    found = set()
    package = module.split(".") if FILES[module].name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:  # a module in `base`, or a name of it
                inside = f"{base}.{alias.name}".removeprefix(".")
                found.add(inside if inside in FILES else base)
    return frozenset(found)


def part(module: str) -> str:
    """`media` of `jointdit.media.clip`; the face is `jointdit`."""
    return module.split(".")[1] if "." in module else module


def may_import(module: str, other: str) -> bool:
    ours, theirs = part(module), part(other)
    if ours == theirs:
        return True
    return theirs in ONLY[ours] if ours in ONLY else LEVELS[theirs] <= LEVELS[ours]


def test_every_folder_has_its_place() -> None:
    folders = {path.parent.name for path in (ROOT / "jointdit").glob("*/__init__.py")}
    assert not folders - LEVELS.keys(), "give new folders a place in ORDER"


def pairs(modules: Iterable[str]) -> list[tuple[str, str]]:
    """Every module with every module of the library that it names."""
    return [(module, other) for module in modules for other in sorted(imports(module)) if other in LIBRARY]


def test_imports_go_one_way() -> None:
    assert not [pair for pair in pairs(LIBRARY) if not may_import(*pair)]


def test_nothing_imports_recipes() -> None:
    assert not [pair for pair in pairs(FILES) if part(pair[1]) == "recipes" != part(pair[0])]


def test_the_library_knows_neither_comfyui_nor_the_nodes() -> None:
    assert not [
        module for module in LIBRARY if {other.split(".")[0] for other in imports(module)} & {*COMFYUI, "nodes"}
    ]


def test_the_nodes_ask_for_a_numbered_version_of_comfyuis_interface() -> None:
    """`latest` changes without notice."""
    asked = {name for module in FILES if module.split(".")[0] == "nodes" for name in imports(module)}
    assert {name for name in asked if name.startswith("comfy_api")} == {"comfy_api.v0_0_2"}


def test_there_are_no_import_cycles() -> None:
    try:
        TopologicalSorter({module: imports(module) & FILES.keys() for module in FILES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_file_is_long() -> None:
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in FILES.items()}
    assert not [(module, count) for module, count in lines.items() if count > LONGEST]
