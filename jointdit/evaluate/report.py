"""Scores as JSON and as lines of a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from .align import AlignScores
from .distance import Frechet
from .folder import FolderScores
from .generated import ModelScores, Named
from .measures import Compared, Row
from .scores import Corrected
from .sync import CurveSync, EventSync

DIGITS = 4
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}


def as_json(value: Any) -> Any:
    """Scores for `json.dumps`: dataclasses become objects, numbers are rounded, what is not a number becomes null."""
    if hasattr(value, "__dataclass_fields__"):
        return as_json(asdict(value))
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value


def model_lines(scores: ModelScores) -> Iterator[str]:
    """A table of a model's scores."""
    yield from _sync_lines(scores.sync)
    if "all" in scores.truth_sync:
        yield _sync_line("autoencoded", scores.truth_sync["all"])
    for name, named in (("sound", scores.sound), ("pictures", scores.pictures)):
        yield _named_line(name, named)
    agree, (low, high) = scores.agree
    yield f"the effect that is heard is the one that is seen: {agree:.2f} [{low:.2f}, {high:.2f}]"
    picture = scores.picture
    red, green, blue = picture.drift
    yield f"first frame: {picture.psnr_first_frame:.2f} dB (autoencoder alone {picture.psnr_autoencoder:.2f} dB)"
    yield f"second frame: {picture.psnr_second_frame:.2f} dB (scenes {picture.truth_psnr_second_frame:.2f} dB)"
    yield (
        f"colour drift: {red:+.1f} {green:+.1f} {blue:+.1f}, mean size {picture.drift_size:.1f} grey levels "
        f"(scenes {picture.truth_drift_size:.1f}); motion {picture.motion:.2f} (scenes {picture.truth_motion:.2f})"
    )
    yield f"loudness: {scores.loudness_dbfs:.1f} dBFS, silent clips {scores.silent:.0%}"
    yield _distance_line("the scenes through the autoencoders", scores.sound_distance, scores.picture_distance)


def folder_lines(scores: FolderScores) -> Iterator[str]:
    """A table of a folder's scores."""
    if scores.sync:
        yield from _sync_lines(scores.sync)
    yield from align_lines(scores.align)
    loud = scores.loudness_dbfs
    yield f"clips: {scores.align.clips}, of which silent {scores.silent:.0%}"
    yield f"motion {scores.motion:.2f} grey levels a frame, loudness {loud:.1f} dBFS"
    if scores.sound_distance and scores.picture_distance:
        yield _distance_line("the reference", scores.sound_distance, scores.picture_distance)
    for name, reason in scores.skipped.items():
        yield f"left out: {name}: {reason}"
    if scores.note:
        yield f"note: {scores.note}"


def align_lines(align: AlignScores) -> Iterator[str]:
    """A table of the scores against shuffled pairs."""
    yield f"{'':<18}{'value':>8}{'shuffled':>10}{'margin':>8}  95% interval"
    for name, each in (("onset alignment", align.onset_align), ("motion, loudness", align.motion_loudness)):
        low, high = each.interval
        yield f"{name:<18}{each.value:>8.3f}{each.shuffled:>10.3f}{each.margin:>8.3f}  {low:.3f} to {high:.3f}"


def _distance_line(name: str, sound: Frechet, pictures: Frechet) -> str:
    found = ", ".join(
        f"{kind} {each.value:.2f} (of which about {each.excess:.2f} for want of clips)"
        for kind, each in (("sound", sound), ("pictures", pictures))
    )
    return f"Fréchet distance from {name}: {found}"


def _sync_lines(scores: dict[str, EventSync | CurveSync]) -> Iterator[str]:
    yield f"{'sync':<12}{'clips':>6}{'seen':>6}{'heard':>6}  seen->heard (chance, corrected)  heard->seen"
    for name, sync in scores.items():
        yield _sync_line(name, sync)


def _sync_line(name: str, sync: EventSync | CurveSync) -> str:
    if isinstance(sync, CurveSync):
        return f"{name:<12}{sync.clips:>6}{'':>12}  correlation {_corrected(sync.correlation)}"
    return (
        f"{name:<12}{sync.clips:>6}{sync.seen_per_clip:>6.2f}{sync.heard_per_clip:>6.2f}  "
        f"{_corrected(sync.seen_heard)}  {_corrected(sync.heard_seen)}  {sync.offset_ms:+.0f} ms"
    )


def _corrected(score: Corrected) -> str:
    low, high = score.interval
    return f"{score.value:.2f} ({score.chance:.2f}, {score.corrected:.2f} [{low:.2f}, {high:.2f}])"


def _named_line(name: str, named: Named) -> str:
    low, high = named.interval
    worst = ", ".join(f"{effect} {right:.2f}" for effect, right in named.by_effect.items() if right < 1)
    return (
        f"{name} are the asked effect: {named.right:.2f} [{low:.2f}, {high:.2f}]{' (' + worst + ')' if worst else ''}; "
        f"the judge: {named.held_out:.2f} on held-out scenes, {named.autoencoded:.2f} through the autoencoders"
    )


Cells = list[list[str]]  # of a table, its head first


def table_cells(rows: Sequence[Row]) -> Cells:
    """Measures as a table."""
    return [["measure", "network", "value", "95% interval", "by chance", "recorded"]] + [
        [
            row.measure + ARROWS[row.better],
            row.network,
            _number(row.value),
            _interval(row.interval),
            _number(row.chance),
            _number(row.real),
        ]
        for row in rows
    ]


def compared_cells(rows: Sequence[Compared], against: str) -> Cells:
    """The differences of two models as a table."""
    return [["measure", "network", "this", against, "difference", "95% interval", "p"]] + [
        [
            row.measure + ARROWS[row.better],
            row.network,
            _number(row.value),
            _number(row.against),
            _number(row.difference.value),
            _interval(row.difference.interval),
            _number(row.difference.p),
        ]
        for row in rows
    ]


def markdown_lines(cells: Cells) -> list[str]:
    """A table in Markdown."""
    head, *rows = [f"| {' | '.join(row)} |" for row in cells]
    return [head, "|---" * len(cells[0]) + "|", *rows]


def _interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{_number(low)} to {_number(high)}" if math.isfinite(low) else ""


def _number(value: float) -> str:
    """Three significant digits or more; nothing for what is no number."""
    if not math.isfinite(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}" if abs(value) >= 1 else f"{value:.3f}"


def model_rows(scores: ModelScores) -> list[Row]:
    """A model's scores on synthetic scenes as lines of the same table; recorded are the scenes through its
    autoencoders."""
    rows = []
    for title, attribute in (("seen events heard", "seen_heard"), ("heard events seen", "heard_seen")):
        ours, truth = (each.get("all") for each in (scores.sync, scores.truth_sync))
        if isinstance(ours, EventSync):
            found: Corrected = getattr(ours, attribute)
            real = getattr(truth, attribute).corrected if isinstance(truth, EventSync) else math.nan
            rows.append(Row(f"{title}, corrected for chance", "", "higher", found.corrected, found.interval, 0.0, real))
    for effect, sync in scores.sync.items():
        if isinstance(sync, CurveSync):
            truth, found = scores.truth_sync.get(effect), sync.correlation
            real = truth.correlation.corrected if isinstance(truth, CurveSync) else math.nan
            rows.append(
                Row(f"{effect}, corrected for chance", "", "higher", found.corrected, found.interval, 0.0, real)
            )
    effects = len(scores.sound.held_out_by_effect)
    for title, named in (("asked effect heard", scores.sound), ("asked effect seen", scores.pictures)):
        rows.append(Row(title, "", "higher", named.right, named.interval, 1 / effects, named.autoencoded))
    return rows
