"""Small sounding videos to train on."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np

from jointdit.media import Clip


def video(path: Path, seconds: float = 0.7, sound: str = "tone") -> Path:
    """Writes moving noise with a tone, silence or no track."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = round(seconds * 12.5)
    rng = np.random.default_rng(len(path.name))
    pictures = rng.integers(0, 256, (frames, 48, 64, 3)).astype(np.uint8)
    samples = round(frames / 12.5 * 16000)
    tone = 0.3 * np.sin(2 * math.pi * 440 * np.arange(samples) / 16000, dtype=np.float32)[None]
    audio = {"tone": tone, "silence": 0 * tone, "none": tone[:, :0]}[sound]
    Clip(pictures, Fraction(25, 2), audio, 16000).save(path)
    return path
