"""`jointdit doctor`: what is here, for a person who wonders or a report of a bug."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from ..version import __version__
from .models import model_places

PACKAGES = "torch diffusers transformers accelerate safetensors numpy pillow av".split()
# The packages of each extra, and what it adds.
EXTRAS = {
    "train": (("peft", "tensorboard"), "low-rank adapters and curves in training"),
    "adamw8bit": (("bitsandbytes",), "an optimizer in eight bits, for training in less memory"),
    "evaluate": (("scipy", "scikit-image", "scikit-learn", "matplotlib"), "jointdit evaluate and the sync plots"),
    "loudness": (("pyloudnorm",), "jointdit generate --loudness"),
    "av-align": (("librosa", "opencv-python-headless"), "AV-Align as its authors compute it, in jointdit evaluate"),
    "client": (("websocket-client",), "jointdit run-workflow"),
    "ui": (("gradio",), "jointdit ui, the web page"),
}
GIB = 2**30


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser of `jointdit`."""
    text = "Say what is installed, which devices, memory and models there are, and what each extra would add."
    parser = commands.add_parser(
        "doctor", help="say what is installed and found; for reports", description=text, allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error, and warnings")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Looks, and prints what is found."""
    from .progress import hushed

    with hushed():
        found = examine()
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    lines = list(_lines(found))
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in lines))


def examine() -> dict[str, Any]:
    """Everything, as JSON has it. Sizes are in bytes; a package that is not there has no version."""
    import psutil

    memory = psutil.virtual_memory()
    return {
        "jointdit": __version__,
        "folder": str(Path(__file__).parents[1]),
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "system": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "memory": {"total": memory.total, "available": memory.available},
        "models": _models(),
        "extras": {
            name: {"adds": adds, "missing": [package for package in packages if _version(package) is None]}
            for name, (packages, adds) in EXTRAS.items()
        },
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    import torch

    devices: list[dict[str, Any]] = [
        {"name": "cpu", "is": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    ]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        about = {"name": f"cuda:{index}", "is": torch.cuda.get_device_name(index), "free": free, "total": total}
        devices.append(about)
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "is": platform.machine()})
    return devices


def _models() -> dict[str, list[str]]:
    """Models by the place in which they were looked for."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from ..checkpoints.components import INDEX
    from ..checkpoints.folders import BUNDLED
    from ..checkpoints.published import MODELS

    places = {"bundled": [name for name, folder in BUNDLED.items() if (folder / INDEX).is_file()]}
    for folder in model_places():
        places[str(folder)] = sorted(path.parent.name for path in folder.glob(f"*/{INDEX}"))
    cached = Path(HF_HUB_CACHE)
    folders = {name: cached / f"models--{model.repository.replace('/', '--')}" for name, model in MODELS.items()}
    places[str(cached)] = [name for name, folder in folders.items() if any(folder.glob("snapshots/*/*"))]
    return places


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "jointdit", f"{found['jointdit']}, in {found['folder']}"
    yield "python", f"{found['python']['version']}, {found['python']['executable']}"
    yield "system", found["system"]
    yield "packages", ", ".join(f"{name} {version or 'missing'}" for name, version in found["packages"].items())
    for device in found["devices"]:
        told = [device["is"]]
        told += [f"{device['cores']} cores"] if "cores" in device else []
        told += [f"{device['free'] / GIB:.1f} of {device['total'] / GIB:.1f} GiB free"] if "total" in device else []
        yield device["name"], ", ".join(told)
    memory = found["memory"]
    yield "memory", f"{memory['available'] / GIB:.1f} of {memory['total'] / GIB:.1f} GiB free"
    for place, names in found["models"].items():
        yield "models", f"{', '.join(names) or 'none'}{'' if place == 'bundled' else ' in'} {place}"
    for name, extra in found["extras"].items():
        state = f"lacks {', '.join(extra['missing'])}: would add" if extra["missing"] else "installed:"
        yield f"[{name}]", f"{state} {extra['adds']}"
