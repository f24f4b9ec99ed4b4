"""What effects are made of: materials with their sound, colours, and the words for them."""

from .. import sounds
from ..arrays import Sound

# Partials relative to the lowest, their levels and decay times in seconds.
MATERIALS: dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {
    "rubber": ((1.0, 1.6), (1.0, 0.25), (0.06, 0.03)),
    "wooden": ((1.0, 2.57, 4.9), (1.0, 0.6, 0.35), (0.035, 0.02, 0.012)),
    "glass": ((3.0, 7.1, 11.3), (1.0, 0.7, 0.4), (0.07, 0.05, 0.03)),
    "metal": ((2.0, 5.3, 8.9, 13.1), (0.8, 1.0, 0.7, 0.4), (0.11, 0.09, 0.07, 0.05)),
}
STUFF = {"rubber": "rubber", "wooden": "wood", "glass": "glass", "metal": "metal"}
COLOURS = {
    "red": (0.9, 0.1, 0.1),
    "orange": (1.0, 0.5, 0.05),
    "yellow": (1.0, 0.88, 0.1),
    "green": (0.1, 0.75, 0.2),
    "blue": (0.1, 0.3, 0.95),
    "purple": (0.6, 0.15, 0.85),
    "white": (0.95, 0.95, 0.95),
}


def size_word(value: float, low: float, high: float) -> str:
    """Small, medium or large, by thirds of the range."""
    return ("small", "medium", "large")[min(2, int(3 * (value - low) / (high - low)))]


def knock(material: str, pitch: float) -> Sound:
    """The sound of hitting a material, 0.35 s; `pitch` in Hz is that of its lowest partial at ratio 1."""
    ratios, levels, taus = MATERIALS[material]
    return sounds.partials(0.35, [pitch * r for r in ratios], levels, taus)
