"""JointDiT: one image becomes a short video with its own synchronized sound.

Importing this package costs nothing: what it exports is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .diffusion.guidance import JointCFG
    from .diffusion.reuse import Reuse
    from .diffusion.sync_guidance import SyncGuidance
    from .errors import InputError
    from .media import Clip
    from .models.model import JointDiTModel
    from .pipeline import JointDiTPipeline, SamplingSettings
    from .runtime.memory import Memory
    from .runtime.speed import Speed

__all__ = [
    "Clip",
    "InputError",
    "JointCFG",
    "JointDiTModel",
    "JointDiTPipeline",
    "Memory",
    "Reuse",
    "SamplingSettings",
    "Speed",
    "SyncGuidance",
    "__version__",
]

_HOMES = {
    "Clip": ".media",
    "InputError": ".errors",
    "JointCFG": ".diffusion.guidance",
    "JointDiTModel": ".models.model",
    "JointDiTPipeline": ".pipeline",
    "Memory": ".runtime.memory",
    "Reuse": ".diffusion.reuse",
    "SamplingSettings": ".pipeline",
    "Speed": ".runtime.speed",
    "SyncGuidance": ".diffusion.sync_guidance",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
