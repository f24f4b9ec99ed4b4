"""Distances and scores against what they are by analysis, and against other implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.special import softmax
from scipy.stats import entropy

from jointdit.evaluate.statistics import (
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    Mean,
    difference,
    divergences,
    draw_counts,
    estimate,
    shuffled_distance,
)

RNG = np.random.default_rng(0)


def alone(*sets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Every clip is a recording of its own."""
    return (*sets, *(np.arange(len(each)) for each in sets))


@pytest.mark.parametrize("clips", [300, 12], ids=["more clips than features", "fewer"])
def test_frechet_is_that_of_numpy_and_scipy(clips):
    one, two = RNG.normal(size=(clips, 24)) @ RNG.normal(size=(24, 24)), 3 + RNG.normal(size=(clips + 5, 24))
    a, b = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    expected = np.square(one.mean(0) - two.mean(0)).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert FrechetDistance(*alone(one, two)).at() == pytest.approx(expected, rel=1e-3 if clips == 12 else 1e-9)


def test_frechet_of_gaussians_is_their_analytic_distance():
    shift, scale = np.linspace(0, 2, 6), np.linspace(0.5, 2, 6)
    one, two = RNG.normal(size=(200_000, 6)), shift + scale * RNG.normal(size=(200_000, 6))
    expected = np.square(shift).sum() + np.square(scale - 1).sum()
    assert FrechetDistance(*alone(one, two)).at() == pytest.approx(expected, rel=0.02)


def test_frechet_does_not_divide_by_the_references_deviation():
    one, two = RNG.normal(size=(50, 4)), 1 + RNG.normal(size=(50, 4))
    plain = FrechetDistance(*alone(one, two)).at()
    assert FrechetDistance(*alone(10 * one, 10 * two)).at() == pytest.approx(100 * plain)


@pytest.mark.parametrize("kind", ["polynomial", "gaussian"])
def test_kernel_distance_is_the_mean_over_pairs(kind):
    one, two = RNG.normal(size=(9, 5)), 0.5 + RNG.normal(size=(8, 5))
    apart = sorted(np.linalg.norm(two[i] - two[j]) for i in range(8) for j in range(i))
    width, scale = apart[13], {"polynomial": 1, "gaussian": 100}[kind]

    def kernel(x, y):
        return (x @ y / 5 + 1) ** 3 if kind == "polynomial" else np.exp(-((x - y) ** 2).sum() / (2 * width**2))

    def pairs(x):
        return np.mean([kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])

    between = np.mean([kernel(x, y) for x in one for y in two])
    expected = scale * (pairs(one) + pairs(two) - 2 * between)
    assert getattr(KernelDistance, kind)(*alone(one, two)).at() == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_of_gaussians_is_its_analytic_value_and_zero_for_one_distribution():
    """With x ~ N(0, 1), y ~ N(m, 1) in one dimension, E (xy + 1)^3 = 1 + 3 E(xy)^2 + 3 E xy + E (xy)^3."""
    m = 0.7
    one, two = RNG.normal(size=(3000, 1)), m + RNG.normal(size=(3000, 1))
    xx, xy, yy = 1 + 3, 1 + 3 * (1 + m**2), 1 + 3 * (1 + m**2) ** 2 + 3 * m**2 + (m**3 + 3 * m) ** 2
    assert KernelDistance.polynomial(*alone(one, two)).at() == pytest.approx(xx + yy - 2 * xy, rel=0.25)
    same = [KernelDistance.polynomial(*alone(*RNG.normal(size=(2, 40, 8)))).at() for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200)


def test_kl_and_inception_score_are_those_of_scipy():
    logits, reference = RNG.normal(size=(40, 7)), RNG.normal(size=(40, 7))
    ours, theirs = softmax(logits, 1), softmax(reference, 1)
    assert divergences(logits, reference) == pytest.approx(entropy(theirs, ours, axis=1))
    expected = np.exp(np.mean(entropy(ours, ours.mean(0)[None], axis=1)))
    assert InceptionScore(logits, np.arange(40)).at() == pytest.approx(expected)
    order = np.random.RandomState(2020).permutation(40)
    parts = [ours[order[first : first + 10]] for first in range(0, 40, 10)]
    expected = np.mean([np.exp(np.mean(entropy(part, part.mean(0)[None], axis=1))) for part in parts])
    assert InceptionScore(logits, np.arange(40), splits=4).at() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["frechet", "inception"])
def test_a_recording_that_counts_twice_is_as_if_it_were_there_twice(kind):
    one, two = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 3))
    counts = draw_counts(10, 1)[0]
    recording = np.arange(20) // 2
    again = np.repeat(np.arange(20), counts[recording])
    if kind == "frechet":
        drawn, there = FrechetDistance(one, two, recording, recording), FrechetDistance(*alone(one[again], two[again]))
    else:
        drawn, there = InceptionScore(one, recording), InceptionScore(one[again], np.arange(len(again)))
    assert drawn.at(counts) == pytest.approx(there.at())


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Of 60 sets each: means of normal numbers, and Fréchet and kernel distances of a known shift."""
    hits = {"mean": 0, "kernel": 0, "frechet": 0}
    m = 1.0
    for _ in range(60):
        x, y = RNG.normal(size=(60, 1)), m + RNG.normal(size=(60, 1))
        low, high = estimate(Mean(x[:, 0], np.arange(60)), 60).interval
        hits["mean"] += low <= 0 <= high
        truth = 4 + 1 + 3 * (1 + m**2) ** 2 + 3 * m**2 + (m**3 + 3 * m) ** 2 - 2 * (1 + 3 * (1 + m**2))
        low, high = estimate(KernelDistance.polynomial(*alone(x, y)), 60).interval
        hits["kernel"] += low <= truth <= high
        low, high = estimate(FrechetDistance(*alone(x, y)), 60).interval
        hits["frechet"] += low <= m**2 <= high
    assert all(hit >= 48 for hit in hits.values()), hits


def test_clips_of_one_recording_tell_no_more_than_one():
    values = np.repeat(RNG.normal(size=30), 10)
    once = estimate(Mean(values[::10], np.arange(30)), 30).interval
    often = estimate(Mean(values, np.arange(300) // 10), 30).interval
    assert often == pytest.approx(once)


def test_a_paired_difference_is_found_where_unpaired_intervals_overlap():
    hard = RNG.normal(size=40)
    one, two = (Mean(hard + bias + RNG.normal(0, 0.05, 40), np.arange(40)) for bias in (0.1, 0.0))
    (low, high), (other_low, other_high) = (estimate(each, 40).interval for each in (one, two))
    assert low < other_high and other_low < high
    found = difference(one, two, 40)
    assert found.interval[0] > 0 and found.p < 0.01
    nothing = difference(one, Mean(one.values + RNG.normal(0, 0.05, 40), np.arange(40)), 40)
    assert nothing.p > 0.05 and nothing.interval[0] < 0 < nothing.interval[1]


def test_chance_of_a_distance_is_its_level_for_sets_of_one_distribution():
    one, two = RNG.normal(size=(2, 60, 8))
    by_chance = shuffled_distance(FrechetDistance, one, two)
    assert by_chance == pytest.approx(FrechetDistance(*alone(one, two)).at(), rel=0.5) and by_chance > 0.3
    assert abs(shuffled_distance(KernelDistance.gaussian, one, two)) < 0.5
