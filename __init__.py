"""The repository as a ComfyUI extension: ComfyUI loads this folder as a package and calls `comfy_entrypoint`."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import comfyui_version

if TYPE_CHECKING:
    from comfy_api.v0_0_2 import ComfyExtension

MINIMUM = (0, 11, 0)  # the first with search aliases, advanced inputs and dynamic combos
WEB_DIRECTORY = "./web"
LATER = ("accelerate", "diffusers", "einops", "filelock", "psutil", "tqdm", "transformers")  # imported when nodes run

if tuple(map(int, re.findall(r"\d+", comfyui_version.__version__)[:3])) < MINIMUM:
    needed = ".".join(map(str, MINIMUM))
    raise ImportError(f"JointDiT needs ComfyUI {needed} or newer, and this is {comfyui_version.__version__}: update it")


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI asks for its nodes. Raises ImportError with the command that installs what is missing."""
    from comfy_api.v0_0_2 import ComfyExtension, io

    try:
        from .nodes import NODES
    except ModuleNotFoundError as error:
        raise _lacks(str(error.name)) from error
    if missing := [name for name in LATER if find_spec(name) is None]:
        raise _lacks(", ".join(missing))

    class JointDiTExtension(ComfyExtension):
        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            return NODES

    return JointDiTExtension()


def _lacks(names: str) -> ImportError:
    requirements = Path(__file__).with_name("requirements.txt")
    return ImportError(
        f'JointDiT lacks {names}; install it with: "{sys.executable}" -m pip install -r "{requirements}"'
    )
