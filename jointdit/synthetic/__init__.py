"""An endless, seeded source of sounding scenes with exact ground truth."""

from .dataset import synthesize
from .effects import COLOURED, EFFECTS
from .scenes import Scene, render_scene
from .suggestion import suggested_effect
from .textures import PictureSource, bundled_photos, procedural_picture

__all__ = [
    "COLOURED",
    "EFFECTS",
    "PictureSource",
    "Scene",
    "bundled_photos",
    "procedural_picture",
    "render_scene",
    "suggested_effect",
    "synthesize",
]
