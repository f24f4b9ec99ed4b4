"""Events seen and events heard, one to one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def match_events(seen: NDArray[np.float64], heard: NDArray[np.float64], tolerance: float) -> NDArray[np.int64]:
    """Pairs [M, 2] of indices (seen, heard) at most `tolerance` seconds apart, each event in one pair at most.

    Both are rising. Taking the earliest two that fit gives as many pairs as there can be.
    """
    pairs = []
    i = j = 0
    while i < len(seen) and j < len(heard):
        offset = heard[j] - seen[i]
        if abs(offset) <= tolerance:
            pairs.append((i, j))
        i, j = i + (offset >= -tolerance), j + (offset <= tolerance)
    return np.array(pairs, np.int64).reshape(-1, 2)
