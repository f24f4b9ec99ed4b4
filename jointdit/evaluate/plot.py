"""The sync plot: what is seen over what is heard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ..media import Clip
from ..media.files import whole_file
from .heard import LEAST_RISE, events_heard, is_silent, loudness, mono_mel, onset_strength
from .matching import match_events
from .scores import Margin
from .seen import events_seen, motion

SEEN, HEARD, HIT = "#1f5fbf", "#c2571a", "#2f9e44"
SHOWN = 10  # frames in the strip, at most
WIDE, BELOW = 9.0, 4.2  # inches: width of all parts, height of the two below the strip
DPI = 100


def draw_sync(clip: Clip, title: str = "") -> NDArray[np.uint8]:
    """The sync plot of one clip, uint8 [H, W, 3]: a strip of frames, the log-mel spectrogram with the strength of
    onsets in white, and below them motion and loudness, with the events seen and heard; those within one frame of each
    other are marked as hits.
    """
    seconds, frames = float(clip.seconds), len(clip.frames)
    times = np.arange(frames) / float(clip.fps)
    seen, heard = events_seen(clip.frames, clip.fps), events_heard(clip.audio, clip.sample_rate)
    hits = match_events(seen, heard, 1 / float(clip.fps))

    shown = _strip(clip.frames)
    high = WIDE * shown.shape[0] / shown.shape[1]  # the strip keeps the pictures' proportions
    figure = Figure((WIDE + 1.8, high + BELOW + 1.2), DPI)
    left, right, bottom, top = (0.9, WIDE + 0.9, 0.8, high + BELOW + 0.8)
    width, height = figure.get_size_inches()
    places = {"left": left / width, "right": right / width, "bottom": bottom / height, "top": top / height}
    grid = figure.add_gridspec(3, 1, height_ratios=(high, 0.42 * BELOW, 0.48 * BELOW), hspace=0.15, **places)
    strip, spectrum, curves = cast(Sequence[Axes], grid.subplots(sharex=True))
    strip.imshow(shown, extent=(0, seconds, 0, 1), aspect="auto")
    strip.set_yticks([])
    strip.set_title(title or f"{len(seen)} seen, {len(heard)} heard, {len(hits)} hits")
    spectrum.set_facecolor("black")
    if not is_silent(clip.audio):
        mel = mono_mel(clip.audio, clip.sample_rate)
        spectrum.imshow(mel.T, origin="lower", extent=(0, seconds, 0, mel.shape[1]), aspect="auto", cmap="magma")
        strength, rising = onset_strength(mel)
        onset = spectrum.twinx()
        onset.plot(rising, strength, color="white", lw=1)
        onset.set_ylim(0, 2 * max(strength.max(), LEAST_RISE))
        onset.set_ylabel("onset (nepers)")
    spectrum.set_ylabel("mel bin")

    curves.plot(times[1:] - 0.5 / float(clip.fps), motion(clip.frames)[1:], color=SEEN, label="motion")
    curves.set_ylabel("motion (grey levels)", color=SEEN)
    curves.set_xlabel("seconds")
    curves.set_xlim(0, seconds)
    curves.set_ylim(bottom=0)
    loud = curves.twinx()
    loud.plot(times, loudness(clip.audio, clip.sample_rate, clip.fps, frames), color=HEARD, label="loudness")
    loud.set_ylabel("loudness (dBFS)", color=HEARD)
    top = curves.get_ylim()[1]
    curves.plot(seen, np.full(len(seen), 0.97 * top), "v", color=SEEN, ms=9, clip_on=False, label="seen")
    curves.plot(heard, np.full(len(heard), 0.03 * top), "^", color=HEARD, ms=9, clip_on=False, label="heard")
    for number, (i, j) in enumerate(hits):
        label = None if number else "hit"
        curves.plot([seen[i], heard[j]], [0.93 * top, 0.07 * top], color=HIT, lw=2.5, label=label)
    figure.legend(*curves.get_legend_handles_labels(), loc="lower center", ncols=4, fontsize="small")
    return _pixels(figure)


def draw_margins(scores: dict[str, Margin], title: str) -> NDArray[np.uint8]:
    """Scores beside those of shuffled pairs, uint8 [H, W, 3]; bars on the right are margins with their intervals."""
    figure = Figure((8, 4), DPI, layout="constrained")
    plain, margins = figure.subplots(1, 2)
    places = np.arange(len(scores))
    plain.bar(places - 0.2, [each.value for each in scores.values()], 0.4, color=SEEN, label="clips")
    plain.bar(places + 0.2, [each.shuffled for each in scores.values()], 0.4, color="0.7", label="shuffled pairs")
    plain.margins(y=0.25)
    plain.legend(loc="upper center", ncols=2, fontsize="small")
    low, high = ([abs(each.margin - each.interval[k]) for each in scores.values()] for k in (0, 1))
    margins.bar(places, [each.margin for each in scores.values()], 0.5, color=HIT, yerr=[low, high], capsize=6)
    margins.axhline(0, color="black", lw=0.8)
    for axes, name in ((plain, "score"), (margins, "above shuffled pairs (95% interval)")):
        axes.set_xticks(places, list(scores))
        axes.set_title(name, fontsize="medium")
    figure.suptitle(title)
    return _pixels(figure)


def _strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames from all over the clip side by side, each 96 pixels high."""
    shown: Sequence[int] = np.linspace(0, len(frames) - 1, min(SHOWN, len(frames))).round().astype(int)
    height, width = frames.shape[1:3]
    size = (max(1, round(96 * width / height)), 96)
    return np.concatenate([np.asarray(Image.fromarray(frames[index]).resize(size)) for index in shown], 1)


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    """Drawn without a window or matplotlib's global state."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Writes a picture, uint8 [H, W, 3]; it appears whole or not at all."""
    with whole_file(path) as partial:
        Image.fromarray(picture).save(partial, "PNG")
