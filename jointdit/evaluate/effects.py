"""Which effect is it? Judges of sound and of pictures, trained on synthetic scenes whenever they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from einops import rearrange, reduce
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom
from sklearn.ensemble import ExtraTreesClassifier

from ..media import Clip
from ..synthetic import EFFECTS, render_scene
from .heard import mono_mel, onsets
from .seen import events_seen, motion

TRAIN_SEED, HELD_OUT_SEED = 700_000_000, 800_000_000
SIDE = 64  # pixels to which pictures are reduced
GRID = 4  # cells a side into which pictures are summed up
PALEST, MOST_BLUR = 0.35, 3.0  # of what a weak model paints: share of the change that is left, and pixels of `SIDE`
MOST_GRAIN, GRAIN_SIDE = 9.0, 16  # grey levels, and cells a side
FRAMES_PER_SECOND = 100  # of the log-mel

Array = NDArray[np.floating]
Features = Callable[[Clip], NDArray[np.float32]]
Sample = tuple[Clip, str]  # and its effect


def sound_features(clip: Clip) -> NDArray[np.float32]:
    """Statistics of the log-mel over time, and its shape after onsets. Loudness of the clip does not matter."""
    fine = mono_mel(clip.audio, clip.sample_rate)
    heard = onsets(fine)
    mel = reduce(fine, "t (b four) -> t b", "mean", four=4)
    starts = (heard * FRAMES_PER_SECOND).astype(int) if len(heard) else mel.mean(1).argmax(0, keepdims=True)
    after = [_stretch(mel, starts, first, last) for first, last in ((0, 4), (4, 12), (12, 30))]
    change = np.abs(np.diff(mel, axis=0))
    percentiles = np.percentile(mel, (10, 50, 90), axis=0)
    shares = [len(heard), (mel > -4).mean(), change.max() / (change.mean() + 1e-3)]
    return np.concatenate(
        [mel.mean(0), mel.std(0), mel.max(0), percentiles.ravel(), change.mean(0), *after, shares]
    ).astype(np.float32)


def picture_features(clip: Clip) -> NDArray[np.float32]:
    """What changes, where, and in which colour: at events, and overall. The picture itself matters little."""
    small = np.stack([np.asarray(Image.fromarray(frame).resize((SIDE, SIDE))) for frame in clip.frames])
    frames = small.astype(np.float32)
    away, steps = frames - frames[0], np.diff(frames, axis=0)
    seen = events_seen(small, clip.fps)
    change = motion(small)[1:]
    shown = np.rint(seen * float(clip.fps) - 0.5).astype(int) if len(seen) else change.argmax(0, keepdims=True)
    at_events, before = steps[shown], steps[np.maximum(shown - 1, 0)]
    grids = [_grid(np.abs(away)), _grid(np.abs(at_events)), _grid(at_events), _grid(np.abs(before)), _grid(away)]
    grids.append(_streaks(away))
    scale = change.max() + 1
    colours = [each.mean((0, 1, 2)) for each in (away, at_events, steps[-3:])]
    spread = [away.std((0, 1, 2)), at_events.std((0, 1, 2)), away[-1].mean((0, 1))]
    curve = np.percentile(change, (10, 30, 50, 70, 90)) / scale
    return np.concatenate([*grids, *colours, *spread, curve, [scale, len(seen)]]).astype(np.float32)


def _stretch(mel: Array, starts: NDArray[np.integer], first: int, last: int) -> Array:
    """Mean [bands] of the frames `first` to `last` after each start."""
    rows = np.clip(starts[:, None] + np.arange(first, last), 0, len(mel) - 1)
    return mel[rows].mean((0, 1))


def _grid(change: Array) -> Array:
    """[N, side, side, 3] -> mean of each cell, [16]."""
    cells = reduce(change, "n (y a) (x b) c -> y x", "mean", y=GRID, x=GRID)
    return rearrange(cells, "y x -> (y x)")


def _streaks(change: Array) -> Array:
    """[N, side, side, 3] -> share of the fine differences that lies across, in each cell, [16]: high where it rains."""
    fine = change - gaussian_filter(change, (0, 2, 2, 0))
    down, across = (_grid(np.abs(np.diff(fine, axis=axis, append=0))) for axis in (1, 2))
    return across / (down + across + 1e-3)


def weathered(clip: Clip, rng: np.random.Generator) -> Clip:
    """The clip as a weak model would paint it: what happens is paler by a random factor down to `PALEST` and blurred a
    little, and there is grain, which changes from frame to frame and is not finer than `GRAIN_SIDE` cells a side."""
    first = clip.frames[:1].astype(np.float32)
    blur = rng.uniform(0, MOST_BLUR)
    frames = first + rng.uniform(PALEST, 1) * gaussian_filter(clip.frames - first, (0, blur, blur, 0))
    cells = rng.normal(0, rng.uniform(0, MOST_GRAIN), (len(frames), GRAIN_SIDE, GRAIN_SIDE, 3))
    grain = np.asarray(zoom(cells, np.divide(frames.shape, cells.shape), order=1, grid_mode=True, mode="nearest"))
    return replace(clip, frames=np.clip(frames + grain, 0, 255).astype(np.uint8))


@dataclass(frozen=True, eq=False)
class EffectJudge:
    """Names the effect of a clip.

    accuracy: share of held-out scenes that it names rightly, of the trained effects.    by_effect: the same, each.
    """

    features: Features
    forest: ExtraTreesClassifier
    accuracy: float
    by_effect: dict[str, float]

    @classmethod
    def trained(cls, features: Features, known: Sequence[Sample], unseen: Sequence[Sample]) -> EffectJudge:
        """Learns from `known` clips with their effects, and is examined on `unseen` ones."""
        clips, effects = zip(*known, strict=True)
        forest = ExtraTreesClassifier(300, random_state=0).fit(_table(features, clips), effects)
        clips, effects = zip(*unseen, strict=True)
        right = forest.predict(_table(features, clips)) == np.array(effects)
        by_effect = {each: right[np.array(effects) == each].mean().item() for each in sorted(set(effects))}
        return cls(features, forest, right.mean().item(), by_effect)

    def name(self, clips: Sequence[Clip]) -> list[str]:
        """The effect of each clip."""
        return [str(name) for name in self.forest.predict(_table(self.features, clips))]


def _table(features: Features, clips: Sequence[Clip]) -> NDArray[np.float32]:
    """Features [N, K] of N clips."""
    return np.stack([features(clip) for clip in clips])


def train_judges(
    effects: Sequence[str] = EFFECTS,
    train: int = 30,
    held_out: int = 8,
    autoencode: Callable[[Clip], Clip] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[EffectJudge, EffectJudge]:
    """Judges of sound and of pictures, from `train` scenes of each effect; `held_out` further ones examine them.

    autoencode: takes a clip through a model's autoencoders. The judges learn each scene also from what comes out, or
    they would take what a vocoder does to every sound for another effect. They also learn each one pale and grainy
    (`weathered`), or they would take a model's grain, or how faintly it paints, for another effect.
    """
    learned = len(effects) * train
    total = len(effects) * (train + held_out)
    known: list[Sample] = []
    unseen: list[Sample] = []
    for index in range(total):
        effect = effects[index % len(effects)]
        seed = index + (TRAIN_SEED if index < learned else HELD_OUT_SEED)
        scene = render_scene(seed, effect=effect, height=SIDE, width=SIDE)
        clip = Clip(scene.frames, scene.fps, scene.audio[None], scene.sample_rate)
        if index >= learned:
            unseen.append((clip, effect))
        else:
            known.append((clip, effect))
            known.append((weathered(clip, np.random.default_rng(seed)), effect))
            if autoencode is not None:
                known.append((autoencode(clip), effect))
        progress(index + 1, total)
    return (
        EffectJudge.trained(sound_features, known, unseen),
        EffectJudge.trained(picture_features, known, unseen),
    )
