"""The repository as a ComfyUI extension: ComfyUI loads this folder as a package and calls `comfy_entrypoint`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import comfyui_version

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

MINIMUM = (0, 11, 0)  # the first with search aliases, advanced inputs and dynamic combos
WEB_DIRECTORY = "./web"

if tuple(map(int, re.findall(r"\d+", comfyui_version.__version__)[:3])) < MINIMUM:
    needed = ".".join(map(str, MINIMUM))
    raise ImportError(f"JointDiT needs ComfyUI {needed} or newer, and this is {comfyui_version.__version__}: update it")


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI asks for its nodes. Raises ImportError with the command that installs what is missing."""
    from comfy_api.latest import ComfyExtension, io

    try:
        from .nodes import NODES
    except ModuleNotFoundError as error:
        requirements = Path(__file__).with_name("requirements.txt")
        raise ImportError(
            f'JointDiT lacks {error.name}; install it with: "{sys.executable}" -m pip install -r "{requirements}"'
        ) from error

    class JointDiTExtension(ComfyExtension):
        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            return NODES

    return JointDiTExtension()
