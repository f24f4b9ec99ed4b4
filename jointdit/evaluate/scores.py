"""Scores with their chance level and their interval over clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm, t

RESAMPLES = 4000
TAIL = 0.025  # outside a 95% interval, on either side


@dataclass(frozen=True)
class Corrected:
    """A score between chance (0) and perfect (1).

    value, chance: the plain score, and that of sounds of other clips.    corrected: (value - chance) / (1 - chance).
    interval: 95% bootstrap interval of `corrected`, over clips. NaN where there is nothing to score.
    """

    value: float
    chance: float
    corrected: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, hits: ArrayLike, chance: ArrayLike, totals: ArrayLike) -> Corrected:
        """From each clip's hits, hits by chance, and number of things that could be hit, all [N]."""
        table = np.stack([np.asarray(each, float) for each in (hits, chance, totals)], 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            value, by_chance, corrected = _corrected(table.sum(0))
            _, _, drawn = _corrected(_resample(table).sum(1))
        return cls(float(value), float(by_chance), float(corrected), _interval(drawn, len(table)))


@dataclass(frozen=True)
class Margin:
    """A score and by how much it is above that of shuffled pairs, with the 95% bootstrap interval of that margin."""

    value: float
    shuffled: float
    margin: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, values: ArrayLike, shuffled: ArrayLike) -> Margin:
        """From each clip's score and its mean score with sounds of others, both [N]."""
        values, shuffled = np.asarray(values, float), np.asarray(shuffled, float)
        above = values - shuffled
        interval = _interval(_resample(above[:, None]).mean((1, 2)), len(above))
        return cls(values.mean().item(), shuffled.mean().item(), above.mean().item(), interval)


def share(hits: ArrayLike) -> tuple[float, tuple[float, float]]:
    """Mean of `hits` [N], each true or false, and its 95% interval (Wilson 1927: not empty where all are alike)."""
    hits = np.asarray(hits, bool)
    low, high = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return hits.mean().item(), (float(low), float(high))


def _corrected(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Sums [..., 3] of hits, chance hits and totals -> value, chance and corrected [...]."""
    hits, chance, totals = np.moveaxis(sums, -1, 0)
    value, by_chance = hits / totals, chance / totals
    return value, by_chance, (value - by_chance) / (1 - by_chance)


def _resample(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clips [N, K] drawn with replacement [RESAMPLES, N, K], the same for every call of a size."""
    rows = np.random.default_rng(0).integers(len(table), size=(RESAMPLES, len(table)))
    return table[rows]


def _interval(drawn: NDArray[np.float64], clips: int) -> tuple[float, float]:
    """Of a bootstrap over `clips`. Percentiles alone would be too narrow for few clips; they are moved outwards as far
    as Student's t is wider than the normal distribution (Hesterberg 2015, the expanded percentile interval)."""
    drawn = drawn[np.isfinite(drawn)]
    if clips < 2 or not len(drawn):
        return (float("nan"), float("nan"))
    tail = norm.cdf(t.ppf(TAIL, clips - 1) * np.sqrt(clips / (clips - 1)))
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return (float(low), float(high))
