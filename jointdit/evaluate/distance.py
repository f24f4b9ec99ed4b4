"""How far a set of clips is from another one: the Fréchet distance of plain features, which need no trained network.

It tells sets apart whose sounds or pictures differ on the whole; it is no judge of single clips. Few clips make it too
large, because their spread is known badly, so each distance comes with an estimate of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, reduce
from numpy.typing import NDArray
from PIL import Image

from ..encoders.mel import HOP, SAMPLE_RATE, log_mel
from ..media import Clip, resample_audio

Features = NDArray[np.float64]
QUIETEST = -4.0  # nepers, some 75 dB below a loud tone: log-mel further down is not heard
WINDOW, STEP = 32, 16  # mel frames of 10 ms
SHOTS = 4  # frames
SIDE = 32  # pixels to which pictures are reduced
SUBSETS, KEPT = 8, 0.8  # draws without a fifth of the clips, from which the excess is estimated


def sound_windows(clip: Clip) -> Features:
    """Mean and deviation over 0.32 s of 16 bands of the log-mel, [W, 32]. Loudness counts."""
    mono = resample_audio(np.ascontiguousarray(clip.audio.mean(0, keepdims=True)), clip.sample_rate, SAMPLE_RATE)
    mono = np.pad(mono, ((0, 0), (0, max(0, HOP * WINDOW - mono.shape[1]))))
    mel = np.maximum(log_mel(torch.from_numpy(mono))[0].double().numpy(), QUIETEST)
    bands = reduce(mel, "t (b four) -> t b", "mean", four=4)
    windows = [bands[first : first + WINDOW] for first in range(0, len(bands) - WINDOW + 1, STEP)]
    return np.stack([np.concatenate([window.mean(0), window.std(0)]) for window in windows])


def picture_windows(clip: Clip) -> Features:
    """Colours of quarters, and change and detail of sixteenths of the picture over 4 frames, [W, 44]."""
    small = np.stack([np.asarray(Image.fromarray(frame).resize((SIDE, SIDE)), np.float64) for frame in clip.frames])
    small = np.concatenate([small, np.repeat(small[-1:], max(0, SHOTS - len(small)), 0)]) / 255
    grey = small.mean(-1)
    windows = []
    for first in range(0, len(small) - SHOTS + 1, SHOTS // 2):
        shot = slice(first, first + SHOTS)
        change = np.abs(np.diff(grey[shot], axis=0)).mean(0)
        detail = np.hypot(*np.gradient(grey[shot], axis=(1, 2))).mean(0)
        windows.append(np.concatenate([_cells(small[shot].mean(0), 2), _cells(change, 4), _cells(detail, 4)]))
    return np.stack(windows)


def _cells(picture: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    picture = picture.reshape(*picture.shape[:2], -1)
    means = reduce(picture, "(y a) (x b) c -> y x c", "mean", y=cells, x=cells)
    return rearrange(means, "y x c -> (y x c)")


@dataclass(frozen=True)
class Frechet:
    """value: the Fréchet distance of two sets, in squared deviations of the reference.    excess: by how much it is
    too large at this number of clips; the distance of endless sets is about `value - excess`.
    """

    value: float
    excess: float

    @classmethod
    def of(cls, clips: Sequence[Features], reference: Sequence[Features]) -> Frechet:
        """From the windows [W, D] of each clip, of two sets of 2 clips or more.

        The excess of N clips is near to a constant over N (2007.05566): what it grows by without a fifth of them is a
        quarter of it.
        """
        scale = np.concatenate(reference).std(0) + 1e-6
        sets = [[windows / scale for windows in each] for each in (clips, reference)]
        value = _frechet(*(np.concatenate(each) for each in sets))
        rng = np.random.default_rng(0)
        fewer, kept = [], [max(1, min(round(KEPT * len(each)), len(each) - 1)) for each in sets]
        for _ in range(SUBSETS):
            drawn = [
                [each[index] for index in rng.permutation(len(each))[:some]]
                for each, some in zip(sets, kept, strict=True)
            ]
            fewer.append(_frechet(*(np.concatenate(each) for each in drawn)))
        share = min(some / len(each) for each, some in zip(sets, kept, strict=True))
        return cls(value, (float(np.mean(fewer)) - value) * share / (1 - share))


def _frechet(one: Features, two: Features) -> float:
    """Squared distance of two normal distributions (Fréchet 1957, Dowson and Landau 1982) fitted to [N, D], [M, D]."""
    spread_one, spread_two = (np.cov(each, rowvar=False) for each in (one, two))
    levels, axes = np.linalg.eigh(spread_one)
    root = (axes * np.sqrt(levels.clip(0))) @ axes.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ spread_two @ root).clip(0)).sum()
    away = np.square(one.mean(0) - two.mean(0)).sum()
    return float(away + np.trace(spread_one) + np.trace(spread_two) - 2 * shared)
