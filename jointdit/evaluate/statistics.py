"""Numbers over sets of clips, and how far they can be trusted: all as functions of how often each recording counts.

A bootstrap draws recordings with replacement, so a statistic is given how often each was drawn. Clips of one recording
are drawn together, and two models on the same recordings are drawn alike, which is what makes their difference paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist, pdist
from scipy.special import log_softmax
from scipy.stats import norm, t

RESAMPLES = 1000  # of plain means
FEW_RESAMPLES = 200  # where one takes long
SHUFFLES = 20  # of two sets into two halves, for the level of chance of a distance
INTERVAL = (0.025, 0.975)
KAD_SCALE = 100.0  # as the authors' toolkit reports it

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


class Statistic(Protocol):
    """A number over recordings.

    resamples: of its bootstrap.
    biased: whether fewer recordings move it to one side; such a one is never below 0.
    """

    @property
    def resamples(self) -> int: ...

    @property
    def biased(self) -> bool: ...

    def at(self, counts: Counts | None = None) -> float:
        """Its value, with each recording [R] counted so often; once each if left out."""
        ...


@dataclass(frozen=True)
class Estimate:
    """value and its 95% bootstrap interval over recordings; NaN for a single one."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """One statistic less another on the same recordings, with its 95% interval.

    p: how often the bootstrap, moved to no difference, differs at least as much.
    """

    value: float
    interval: tuple[float, float]
    p: float


def draw_counts(recordings: int, resamples: int, seed: int = 0) -> Counts:
    """How often each recording is drawn, [resamples, recordings]. The same for every statistic."""
    chance = np.full(recordings, 1 / recordings)
    return np.random.default_rng(seed).multinomial(recordings, chance, size=resamples)


def estimate(statistic: Statistic, recordings: int) -> Estimate:
    """A statistic with its interval."""
    value = statistic.at()
    if recordings < 2:
        return Estimate(value, (float("nan"), float("nan")))
    drawn = [statistic.at(counts) for counts in draw_counts(recordings, statistic.resamples)]
    low, high = _interval(np.array(drawn), value, statistic.biased, recordings)
    return Estimate(value, (max(low, 0.0), high) if statistic.biased else (low, high))


def difference(one: Statistic, two: Statistic, recordings: int) -> Difference:
    """one - two, both over the same `recordings` in the same order."""
    value = one.at() - two.at()
    if recordings < 2:
        return Difference(value, (float("nan"), float("nan")), float("nan"))
    drawn = np.array([one.at(counts) - two.at(counts) for counts in draw_counts(recordings, one.resamples)])
    drawn = drawn[np.isfinite(drawn)]
    moved = _widening(recordings) * np.abs(drawn - drawn.mean())
    p = (1 + np.count_nonzero(moved >= abs(value))) / (1 + len(drawn))
    return Difference(value, _interval(drawn, value, one.biased, recordings), float(p))


def _widening(recordings: int) -> float:
    """How much further Student's t reaches than the normal distribution: a bootstrap of few is too narrow by that."""
    return float(t.ppf(INTERVAL[1], recordings - 1) / norm.ppf(INTERVAL[1]) * np.sqrt(recordings / (recordings - 1)))


def _interval(drawn: Array, value: float, biased: bool, recordings: int) -> tuple[float, float]:
    """Percentiles, moved outwards for few recordings (Hesterberg 2015, the expanded percentile interval); for a biased
    statistic the basic bootstrap interval, which takes off the bias that drawing adds to the one in the value."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return float("nan"), float("nan")
    tail = float(norm.cdf(-norm.ppf(INTERVAL[1]) * _widening(recordings)))
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return (float(2 * value - high), float(2 * value - low)) if biased else (float(low), float(high))


@dataclass(frozen=True, eq=False)
class Mean:
    """Of values [N], each of the recording [N] that its number tells. NaN values do not count."""

    values: Array
    recording: Counts
    resamples: int = RESAMPLES
    biased: bool = False

    def at(self, counts: Counts | None = None) -> float:
        weights = _weights(self.recording, counts) * np.isfinite(self.values)
        total = weights.sum()
        return float(np.nansum(self.values * weights) / total) if total else float("nan")


@dataclass(frozen=True, eq=False)
class FrechetDistance:
    """Between normal distributions fitted to features [N, D] and [M, D]: ||a - b||^2 + tr(A + B - 2 (A B)^(1/2)), with
    covariances as `np.cov` has them, as FID, FVD and FAD are defined (Heusel et al. 2017, 1706.08500).

    The trace of the root is the sum of the singular values of Y X' / sqrt((N - 1) (M - 1)), with X and Y centred:
    exact, also where there are fewer clips than features and the covariances are singular.
    """

    one: Array
    two: Array
    recording: Counts
    other: Counts
    resamples: int = FEW_RESAMPLES
    biased: bool = True

    def at(self, counts: Counts | None = None) -> float:
        mean, spread = _moments(self.one, _weights(self.recording, counts))
        other_mean, other_spread = _moments(self.two, _weights(self.other, counts))
        shared = np.linalg.svd(spread @ other_spread.T, compute_uv=False).sum()
        away = np.square(mean - other_mean).sum()
        return float(away + np.square(spread).sum() + np.square(other_spread).sum() - 2 * shared)


def _moments(features: Array, weights: Array) -> tuple[Array, Array]:
    """Mean [D], and a matrix [at most D, D] whose product with itself is the covariance."""
    kept = weights > 0
    features, weights = features[kept], weights[kept]
    total = weights.sum()
    mean = weights @ features / total
    centred = (features - mean) * np.sqrt(weights / max(total - 1, 1))[:, None]
    return mean, np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred


@dataclass(frozen=True, eq=False)
class KernelDistance:
    """The unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, lemma 6), times `scale`; it
    may be below 0. From kernel matrices [N, N], [M, M] and [N, M]. A clip that is drawn twice is no pair with
    itself."""

    own: Array
    others: Array
    between: Array
    recording: Counts
    other: Counts
    scale: float = 1.0
    resamples: int = FEW_RESAMPLES
    biased: bool = False

    @classmethod
    def polynomial(cls, one: Array, two: Array, recording: Counts, other: Counts) -> KernelDistance:
        """(x.y / D + 1)^3, as KID (Bińkowski et al. 2018, 1801.01401) and KVD have it."""

        def kernel(x: Array, y: Array) -> Array:
            return (x @ y.T / x.shape[1] + 1) ** 3

        return cls(kernel(one, one), kernel(two, two), kernel(one, two), recording, other)

    @classmethod
    def gaussian(cls, one: Array, two: Array, recording: Counts, other: Counts) -> KernelDistance:
        """exp(-|x - y|^2 / (2 s^2)), s the median distance between two clips of the reference `two`, times 100: KAD
        (Chung et al. 2025, 2502.15602). Of an even number of pairs the median is the lower of the two in the middle, as
        in the authors' toolkit (kad.py of github.com/YoonjinXD/kadtk)."""
        apart = np.sort(pdist(two))
        width = float(apart[(len(apart) - 1) // 2]) if len(apart) else 1.0

        def kernel(x: Array, y: Array) -> Array:
            return np.exp(-cdist(x, y, "sqeuclidean") / (2 * width**2 + 1e-8))

        return cls(kernel(one, one), kernel(two, two), kernel(one, two), recording, other, KAD_SCALE)

    def at(self, counts: Counts | None = None) -> float:
        weights, others = _weights(self.recording, counts), _weights(self.other, counts)
        between = weights @ self.between @ others / (weights.sum() * others.sum())
        return float(self.scale * (_pairs(self.own, weights) + _pairs(self.others, others) - 2 * between))


def _pairs(kernel: Array, weights: Array) -> float:
    """Mean over pairs of two different clips."""
    total = weights.sum() ** 2 - np.square(weights).sum()
    if not total:
        return float("nan")
    return float((weights @ kernel @ weights - np.square(weights) @ np.diag(kernel)) / total)


@dataclass(frozen=True, eq=False)
class InceptionScore:
    """exp of the mean divergence of each clip's classes from those of all (Salimans et al. 2016, 1606.03498), from
    logits [N, C]; of each of `splits` parts, drawn as torch-fidelity draws them, the mean."""

    logits: Array
    recording: Counts
    splits: int = 1
    resamples: int = FEW_RESAMPLES
    biased: bool = True

    def at(self, counts: Counts | None = None) -> float:
        order = np.random.RandomState(2020).permutation(len(self.logits))
        logs, weights = log_softmax(self.logits, axis=1)[order], _weights(self.recording, counts)[order]
        edges = [part * len(order) // self.splits for part in range(self.splits + 1)]
        return float(np.mean([_score(logs[a:b], weights[a:b]) for a, b in pairwise(edges)]))


def _score(logs: Array, weights: Array) -> float:
    if not weights.sum():
        return float("nan")
    shares = np.exp(logs)
    overall = weights @ shares / weights.sum()
    divergences = (shares * (logs - np.log(overall + 1e-300))).sum(1)
    return float(np.exp(weights @ divergences / weights.sum()))


def divergences(logits: ArrayLike, reference: ArrayLike) -> Array:
    """KL(reference || clip) of the softmaxes of logits, both [N, C], clip by clip [N], as av-benchmark has it."""
    ours, theirs = (log_softmax(np.asarray(each, float), axis=1) for each in (logits, reference))
    return (np.exp(theirs) * (theirs - ours)).sum(1)


def shuffled_distance(make: Callable[[Array, Array, Counts, Counts], Statistic], one: Array, two: Array) -> float:
    """The mean distance of two sets that are drawn out of both: that of one distribution at this number of clips."""
    both, rng, found = np.concatenate([one, two]), np.random.default_rng(0), []
    for _ in range(SHUFFLES):
        order = rng.permutation(len(both))
        first, second = both[order[: len(one)]], both[order[len(one) :]]
        found.append(make(first, second, np.arange(len(first)), np.arange(len(second))).at())
    return float(np.mean(found))


def _weights(recording: Counts, counts: Counts | None) -> Array:
    """How often each clip counts."""
    return np.ones(len(recording)) if counts is None else counts[recording].astype(float)


def group_numbers(names: Sequence[str], recordings: Sequence[str]) -> Counts:
    """The number of each name's recording, in the order of `recordings`."""
    place = {recording: index for index, recording in enumerate(recordings)}
    return np.array([place[name] for name in names], np.int64)
