"""The range of pixels."""

from torch import Tensor


def to_unit_range(pixels: Tensor) -> Tensor:
    """0..255 -> float32 in -1..1."""
    return pixels.float() / 127.5 - 1
