"""All measures of a set of clips: beside chance, beside what was recorded, and against another model's.

Sync is measured without any network; the rest needs extractors, and is comparable only between results that name the
same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..media import Clip
from .align import PARTNERS, Curves, motion_loudness, onset_align
from .av_align import AVAILABLE, Peaks, av_align, find_peaks
from .extractors import Extractor, Features
from .statistics import (
    Counts,
    Difference,
    Estimate,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    Mean,
    Statistic,
    difference,
    divergences,
    estimate,
    group_numbers,
    shuffled_distance,
)

SPLITS = 10  # of an inception score, where each part has at least so many clips

Array = NDArray[np.float64]
Pair = Callable[[int, int], float]  # of the clip with one number, and what goes with the clip of the other


@dataclass(frozen=True, eq=False)
class Observation:
    """What is kept of one clip.

    name: of its picture; clips of several models on the same picture share it.    recording: what the picture is of.
    caption: "" where there is none.    features: by extractor.
    """

    name: str
    recording: str
    caption: str
    curves: Curves
    peaks: Peaks | None
    features: dict[str, Features]


@dataclass(frozen=True, eq=False)
class Measure:
    """One measure of a set of clips.

    network: the extractor's name, "" where there is none.    better: "higher", "lower", or "" where neither is.
    chance: what it is with sounds, texts or references of other clips; of a distance, with clips of both sets mixed.
    real: what it is of the recorded clips. NaN where there is none.
    """

    name: str
    network: str
    better: str
    statistic: Statistic
    chance: float
    real: float


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    measure: str
    network: str
    better: str
    value: float
    interval: tuple[float, float]
    chance: float
    real: float


@dataclass(frozen=True)
class Compared:
    """A line of the table of two models: one less the other, on the same pictures."""

    measure: str
    network: str
    better: str
    value: float
    against: float
    difference: Difference


@torch.no_grad()
def observe_clip(
    clip: Clip,
    name: str,
    recording: str,
    caption: str,
    extractors: Sequence[Extractor],
    curves: Curves | None = None,
    path: Path | None = None,
) -> Observation:
    """What the measures need of a clip. curves: its own, if they are there already.    path: the file that it is from.

    Raises InputError for a clip without sound.
    """
    if not clip.has_audio:
        raise InputError(f"{name}: has no sound")
    return Observation(
        name,
        recording,
        caption,
        Curves.of(clip) if curves is None else curves,
        find_peaks(clip, path) if AVAILABLE else None,
        {extractor.name: extractor.of_clip(clip) for extractor in extractors},
    )


def tabulate(measures: Iterable[Measure], recordings: int) -> list[Row]:
    """Measures with their intervals."""
    rows = []
    for each in measures:
        found: Estimate = estimate(each.statistic, recordings)
        rows.append(Row(each.name, each.network, each.better, found.value, found.interval, each.chance, each.real))
    return rows


def compare(ours: Sequence[Measure], theirs: Sequence[Measure], recordings: int) -> list[Compared]:
    """Measures of two models, both of `measure_set` with the same `recordings`."""
    others = {(each.name, each.network): each for each in theirs}
    return [
        Compared(
            each.name,
            each.network,
            each.better,
            each.statistic.at(),
            others[each.name, each.network].statistic.at(),
            difference(each.statistic, others[each.name, each.network].statistic, recordings),
        )
        for each in ours
        if (each.name, each.network) in others
    ]


def recordings_of(*sets: Sequence[Observation]) -> list[str]:
    """The recordings of all sets, once each."""
    return sorted({each.recording for one in sets for each in one})


@torch.no_grad()
def measure_set(
    clips: Sequence[Observation],
    reference: Sequence[Observation],
    recordings: Sequence[str],
    extractors: Sequence[Extractor],
) -> list[Measure]:
    """All measures of two clips or more that can be computed. Those that compare a clip with what was recorded need a
    reference of the same name for each.

    reference: what was recorded; may be empty.    recordings: of `recordings_of`.
    """
    known = {each.name: index for index, each in enumerate(reference)}
    paired = np.array([known[each.name] for each in clips]) if all(each.name in known for each in clips) else None
    groups, others = (group_numbers([each.recording for each in one], recordings) for one in (clips, reference))
    found = _sync(clips, reference, groups)
    for extractor in extractors:
        found += _of_network(extractor, clips, reference, groups, others, paired)
    return found


def _sync(clips: Sequence[Observation], reference: Sequence[Observation], groups: Counts) -> list[Measure]:
    def align(one: Observation, two: Observation) -> float:
        return av_align(one.peaks, two.peaks) if one.peaks and two.peaks else float("nan")

    scores: dict[str, Callable[[Observation, Observation], float]] = {
        "onset alignment": lambda one, two: onset_align(one.curves, two.curves),
        "motion with loudness": lambda one, two: motion_loudness(one.curves, two.curves),
    }
    if AVAILABLE:
        scores = {"AV-Align": align, **scores}
    found = []
    for name, score in scores.items():
        own = np.array([score(each, each) for each in clips])
        real = [score(each, each) for each in reference]
        by_chance = _shuffled(clips, lambda one, two, score=score: score(clips[one], clips[two]))
        found.append(Measure(name, "", "higher", Mean(own, groups), by_chance, _mean(real)))
    return found


def _of_network(
    extractor: Extractor,
    clips: Sequence[Observation],
    reference: Sequence[Observation],
    groups: Counts,
    others: Counts,
    paired: NDArray[np.int64] | None,
) -> list[Measure]:
    ours, theirs = ([each.features[extractor.name] for each in one] for one in (clips, reference))
    kinds = {name for name, value in vars(ours[0]).items() if value is not None}
    found: list[Measure] = []

    def add(name: str, better: str, statistic: Statistic, chance: float = np.nan, real: float = np.nan) -> None:
        found.append(Measure(name, extractor.name, better, statistic, chance, real))

    for kind, titles in (
        ("pictures", ("Fréchet distance of videos", "kernel distance of videos")),
        ("sound", ("Fréchet distance of sounds", "kernel distance of sounds")),
    ):
        if kind in kinds and len(reference) > 1:
            one, two = (np.stack([getattr(each, kind) for each in some]) for some in (ours, theirs))
            kernel = KernelDistance.polynomial if kind == "pictures" else KernelDistance.gaussian
            for title, make in zip(titles, (FrechetDistance, kernel), strict=True):
                add(title, "lower", make(one, two, groups, others), shuffled_distance(make, one, two))
    if "frames" in kinds:
        found += _of_frames(extractor.name, ours, theirs, clips, groups)
    if "classes" in kinds:
        logits = np.stack([each.classes for each in ours if each.classes is not None])
        truth = np.array([each.classes for each in theirs])
        if paired is not None:

            def apart(one: int, two: int) -> float:
                return float(divergences(logits[one][None], truth[paired[two]][None])[0])

            add("KL divergence", "lower", Mean(divergences(logits, truth[paired]), groups), _shuffled(clips, apart))
        splits = SPLITS if len(clips) >= SPLITS**2 else 1
        real = InceptionScore(truth, others, splits if len(truth) >= SPLITS**2 else 1).at() if len(truth) else np.nan
        title = f"inception score, {splits} parts" if splits > 1 else "inception score, in one"
        add(title, "higher", InceptionScore(logits, groups, splits), 1.0, real)
    if extractor.of_text is not None and all(each.caption for each in clips):
        found += _of_texts(extractor, clips, reference, ours, theirs, groups)
    return found


def _of_frames(
    network: str, ours: Sequence[Features], theirs: Sequence[Features], clips: Sequence[Observation], groups: Counts
) -> list[Measure]:
    """How alike neighbouring frames are, and all to the first, which is the given picture."""
    found = []
    frames = [_unit(each.frames) for each in ours]
    real = [_unit(each.frames) for each in theirs]
    scores: dict[str, Callable[[Array, Array], float]] = {
        "frame with next frame": lambda one, two: (
            _mean((one[:-1] * two[1:]).sum(1)) if len(one) == len(two) else np.nan
        ),
        "frames with first frame": lambda one, two: _mean(two[1:] @ one[0]),
    }
    for name, score in scores.items():
        own = np.array([score(each, each) for each in frames])
        by_chance = _shuffled(clips, lambda one, two, score=score: score(frames[one], frames[two]))
        statistic = Mean(own, groups)
        found.append(Measure(name, network, "", statistic, by_chance, _mean([score(each, each) for each in real])))
    return found


def _of_texts(
    extractor: Extractor,
    clips: Sequence[Observation],
    reference: Sequence[Observation],
    ours: Sequence[Features],
    theirs: Sequence[Features],
    groups: Counts,
) -> list[Measure]:
    """Cosine of a clip with its caption: of a network of pictures the mean over frames. Other captions are chance."""
    assert extractor.of_text is not None
    captions = sorted({each.caption for one in (clips, reference) for each in one if each.caption})
    texts = {caption: _unit(extractor.of_text(caption)[None])[0] for caption in captions}
    seen = ours[0].frames is not None

    def rows(features: Features) -> Array:
        return _unit(features.frames if seen else np.asarray(features.sound)[None])

    def cosine(features: Features, caption: str) -> float:
        return float((rows(features) @ texts[caption]).mean())

    own = np.array([cosine(each, clip.caption) for each, clip in zip(ours, clips, strict=True)])
    others = [
        cosine(each, caption)
        for each, clip in zip(ours, clips, strict=True)
        for caption in captions
        if caption != clip.caption
    ]
    real = [cosine(each, clip.caption) for each, clip in zip(theirs, reference, strict=True) if clip.caption]
    name = "text with frames" if seen else "text with sound"
    return [Measure(name, extractor.name, "higher", Mean(own, groups), _mean(others), _mean(real))]


def _shuffled(clips: Sequence[Observation], score: Pair) -> float:
    """The mean score of each clip with what goes with clips of other recordings."""
    count = len(clips)
    shifts = np.random.default_rng(0).permutation(np.arange(1, count))[:PARTNERS]
    found = [
        score(index, other)
        for index in range(count)
        for other in ((index + shifts) % count).tolist()
        if clips[other].recording != clips[index].recording
    ]
    return _mean(found)


def _unit(rows: Array | None) -> Array:
    rows = np.asarray(rows)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def _mean(values: Sequence[float] | Array) -> float:
    """Of what is a number; NaN of nothing."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float("nan")


def on_same_pictures(
    one: Sequence[Observation], two: Sequence[Observation]
) -> tuple[list[Observation], list[Observation]]:
    """The clips of both whose picture the other has too. Raises InputError if they share fewer than two."""
    shared = {each.name for each in one} & {each.name for each in two}
    if len(shared) < 2:
        raise InputError(f"the two sets have {len(shared)} pictures in common; a comparison needs at least 2")
    return ([each for each in one if each.name in shared], [each for each in two if each.name in shared])
