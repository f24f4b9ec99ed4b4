"""The repository loaded as ComfyUI loads it, over a small stand-in of the parts of ComfyUI that the nodes use.

Tests with a real ComfyUI are in test_comfyui_server.py.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
STAND_IN = Path(__file__).with_name("comfyui_stand_in")


@cache
def load_pack() -> ModuleType:
    """The root package under the kind of name that ComfyUI gives it."""
    sys.path.insert(0, str(STAND_IN))  # stays there: nodes import when they run
    name = str(ROOT).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    nodes()
    return module


def nodes() -> dict[str, type]:
    """Node classes by id."""

    async def listed() -> list[type]:
        return await (await sys.modules[str(ROOT).replace(".", "_x_")].comfy_entrypoint()).get_node_list()

    return {node.define_schema().node_id: node for node in asyncio.run(listed())}


def library(name: str) -> ModuleType:
    """A module of the library inside the pack: another copy than the installed one."""
    return importlib.import_module(f"{load_pack().__name__}.{name}")
