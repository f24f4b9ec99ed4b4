"""The effect that a picture suggests where there is no prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .arrays import Picture

HUE_WEIGHT = 2.0  # mean colours of pictures differ more in brightness than in hue
COLOURS = {  # mean colours that suggest an effect: night, dusk, grass, brass, wood, ...
    "ball": (85, 115, 80),
    "lightning": (52, 60, 70),
    "hammer": (105, 85, 65),
    "heartbeat": (150, 95, 100),
    "pendulum": (170, 165, 160),
    "rain": (105, 118, 128),
    "siren": (110, 80, 130),
    "drops": (85, 110, 135),
    "bell": (150, 135, 90),
    "fireworks": (25, 25, 30),
}


def suggested_effect(picture: Picture) -> str:
    """The effect whose colour is nearest to the mean colour of a picture, uint8 [H, W, 3]: one of `EFFECTS`."""
    distances = _opponents(np.array(list(COLOURS.values()), float)) - _opponents(picture.mean((0, 1)))
    return list(COLOURS)[np.square(distances).sum(-1).argmin()]


def _opponents(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., 3] red, green, blue -> [..., 3] brightness, red against green, yellow against blue."""
    red, green, blue = np.moveaxis(colours, -1, 0)
    brightness = colours.mean(-1)
    return np.stack((brightness, HUE_WEIGHT * (red - green), HUE_WEIGHT * ((red + green) / 2 - blue)), -1)
