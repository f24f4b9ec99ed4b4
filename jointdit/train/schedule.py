"""The learning rate over a run."""

from __future__ import annotations

import math


def learning_rate(peak: float, step: int, progress: float, warmup: int = 200) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine down to zero. progress: 0 at the start, 1 at the end."""
    return peak * min(1.0, (step + 1) / max(1, warmup)) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
