"""How loud a sound is: gain, and loudness by ITU-R BS.1770 (extra `loudness`, pyloudnorm)."""

from __future__ import annotations

import sys

import numpy as np

from ..errors import InputError

PEAK = 0.97  # leaves room for what AAC adds
SHORTEST = 0.4  # s: the measure's own block


def with_gain(audio: np.ndarray, decibels: float) -> np.ndarray:
    """float32 [channels, samples], louder or quieter. What would clip is made only as loud as its peak allows."""
    wanted, peak = 10 ** (decibels / 20), float(np.abs(audio).max(initial=0))
    allowed = max(1.0, PEAK / peak) if peak else wanted
    return (audio * min(wanted, allowed)).astype(np.float32)


def check_loudness() -> None:
    """Raises InputError where pyloudnorm is missing: to be asked before the work that makes the sound."""
    try:
        import pyloudnorm  # noqa: F401
    except ImportError as error:
        raise InputError(
            f'loudness (jointdit[loudness]) lacks pyloudnorm; get it with: "{sys.executable}" -m pip install pyloudnorm'
        ) from error


def loudness(audio: np.ndarray, rate: int) -> float:
    """Integrated loudness in LUFS of float32 [channels, samples]; minus infinity for silence."""
    check_loudness()
    import pyloudnorm

    if audio.shape[1] < SHORTEST * rate:
        raise InputError(f"the sound lasts {audio.shape[1] / rate:.2f} s; loudness is measured from {SHORTEST} s on")
    with np.errstate(divide="ignore"):
        return float(pyloudnorm.Meter(rate).integrated_loudness(audio.T.astype(np.float64)))


def with_loudness(audio: np.ndarray, rate: int, target: float) -> np.ndarray:
    """float32 [channels, samples] at a loudness in LUFS, or as near to it as its peak allows; silence stays silent."""
    found = loudness(audio, rate)
    return with_gain(audio, target - found) if np.isfinite(found) else audio
