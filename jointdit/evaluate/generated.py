"""A model put to the test: clips on the first pictures of synthetic scenes, with captions, measured from their files.

Sampling sees a picture and a text. The effect and its times are known to the measures alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from ..latents import ClipShape
from ..media import Clip, read_clip
from ..pipeline import JointDiTPipeline
from ..synthetic import EFFECTS, PictureSource, Scene, render_scene
from .effects import EffectJudge
from .picture import colour_drift, psnr
from .prompts import UNSEEN_WORDS
from .scores import share
from .seen import motion
from .sync import CurveSync, EventSync, observe, sync_by_effect

FIRST_SEED = 600_000_000  # training renders scenes of seeds far below and above
SILENT = -45.0  # dBFS, root mean square

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked of the model (a picture and a prompt), and the scene that they are from."""

    prompt: str
    scene: Scene

    @property
    def truth(self) -> Clip:
        """The scene as a clip."""
        return Clip(self.scene.frames, self.scene.fps, self.scene.audio[None], self.scene.sample_rate)


@dataclass(frozen=True)
class Named:
    """What the judge of one modality says. right: share of the generated clips that are the asked effect.

    held_out, autoencoded: its own accuracy on scenes that it never saw, and on such scenes through the autoencoders.
    """

    right: float
    interval: tuple[float, float]
    by_effect: dict[str, float]
    held_out: float
    held_out_by_effect: dict[str, float]
    autoencoded: float


@dataclass(frozen=True)
class PictureScores:
    """Means over clips. PSNR in dB against the given picture: of the first frame, and of the video autoencoder alone.
    drift: of red, green and blue over the clip, mean and mean size, in grey levels; truth_drift: that of the scenes.
    """

    psnr_first_frame: float
    psnr_autoencoder: float
    drift: tuple[float, float, float]
    drift_size: float
    truth_drift_size: float
    motion: float
    truth_motion: float


@dataclass(frozen=True)
class ModelScores:
    """All scores of a model. `truth_sync`: of the same scenes' truth through the model's autoencoders: the most that
    can be reached. `true_events`: events a clip in the scenes that have any.
    """

    clips: int
    sync: dict[str, EventSync | CurveSync]
    truth_sync: dict[str, EventSync | CurveSync]
    true_events: float
    sound: Named
    pictures: Named
    picture: PictureScores
    loudness_dbfs: float
    silent: float


def draw_tasks(
    clips: int,
    seed: int,
    shape: ClipShape,
    effects: Sequence[str] = EFFECTS,
    unseen_words: bool = False,
    pictures: PictureSource | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Task]:
    """Scenes of the effects in turn, none of which training renders.

    unseen_words: prompts of `UNSEEN_WORDS` instead of captions.
    """
    tasks = []
    for index in range(clips):
        effect = effects[index % len(effects)]
        scene = render_scene(
            FIRST_SEED + seed + index,
            effect=effect,
            frames=shape.frames,
            fps=shape.fps,
            height=shape.height,
            width=shape.width,
            pictures=pictures,
        )
        words = UNSEEN_WORDS[effect]
        tasks.append(Task(words[index // len(effects) % len(words)] if unseen_words else scene.caption, scene))
        progress(index + 1, clips)
    return tasks


def generate_clips(
    pipe: JointDiTPipeline,
    tasks: Sequence[Task],
    seed: int,
    folder: Path,
    batch: int = 4,
    progress: Progress = lambda done, total: None,
    **options: Any,
) -> list[Clip]:
    """One clip for each task, written to `folder` as 000000.mp4, ... and read back; files that are there are kept.

    options: of `JointDiTPipeline.__call__`. The same `seed` and `batch` give the same clips.
    """
    paths = [folder / f"{index:06d}.mp4" for index in range(len(tasks))]
    for first in range(0, len(tasks), batch):
        part = slice(first, first + batch)
        if not all(path.is_file() for path in paths[part]):
            clips = pipe(
                [task.scene.picture for task in tasks[part]],
                [task.prompt for task in tasks[part]],
                generator=torch.Generator().manual_seed(seed + first),
                **options,
            )
            for clip, path in zip(clips, paths[part], strict=True):
                clip.save(path)
        progress(min(first + batch, len(tasks)), len(tasks))
    return [read_clip(path) for path in paths]


@torch.no_grad()
def autoencoded(pipe: JointDiTPipeline, clip: Clip) -> Clip:
    """The clip through the model's autoencoders and its vocoder, as if the model had made just this."""
    pixels = rearrange(torch.from_numpy(clip.frames), "f h w c -> 1 f c h w").float() / 127.5 - 1
    frames = pipe.decode_video(pipe.video_codec.encode_video(pixels.to(pipe.device)))[0]
    samples = torch.from_numpy(clip.audio).to(pipe.device)
    audio = pipe.audio_codec.decode_audio(pipe.audio_codec.encode_audio(samples), samples.shape[-1])
    return Clip(frames, clip.fps, audio.cpu().numpy(), clip.sample_rate)


def score_clips(
    tasks: Sequence[Task], clips: Sequence[Clip], truths: Sequence[Clip], judges: tuple[EffectJudge, EffectJudge]
) -> ModelScores:
    """Scores generated clips. truths: `autoencoded` scenes of the same tasks. judges: of sound and of pictures."""
    effects = [task.scene.effect for task in tasks]
    sound, pictures = (_named(judge, effects, clips, truths) for judge in judges)
    events = [len(task.scene.events) for task in tasks if task.scene.curve is None]
    loudness = [10 * np.log10(np.square(clip.audio).mean() + 1e-12) for clip in clips]
    return ModelScores(
        clips=len(clips),
        sync=sync_by_effect([observe(clip, effect) for clip, effect in zip(clips, effects, strict=True)]),
        truth_sync=sync_by_effect([observe(clip, effect) for clip, effect in zip(truths, effects, strict=True)]),
        true_events=float(np.mean(events)) if events else float("nan"),
        sound=sound,
        pictures=pictures,
        picture=_picture(tasks, clips, truths),
        loudness_dbfs=float(np.mean(loudness)),
        silent=float(np.mean(np.array(loudness) < SILENT)),
    )


def _named(judge: EffectJudge, effects: Sequence[str], clips: Sequence[Clip], truths: Sequence[Clip]) -> Named:
    right = np.array(judge.name(clips)) == effects
    mean, interval = share(right)
    return Named(
        right=mean,
        interval=interval,
        by_effect={effect: right[np.array(effects) == effect].mean().item() for effect in sorted(set(effects))},
        held_out=judge.accuracy,
        held_out_by_effect=judge.by_effect,
        autoencoded=float(np.mean(np.array(judge.name(truths)) == effects)),
    )


def _picture(tasks: Sequence[Task], clips: Sequence[Clip], truths: Sequence[Clip]) -> PictureScores:
    drifts, true_drifts = ([colour_drift(clip.frames) for clip in each] for each in (clips, truths))
    red, green, blue = np.mean(drifts, 0)
    return PictureScores(
        psnr_first_frame=_mean_psnr(tasks, clips),
        psnr_autoencoder=_mean_psnr(tasks, truths),
        drift=(float(red), float(green), float(blue)),
        drift_size=float(np.abs(drifts).mean()),
        truth_drift_size=float(np.abs(true_drifts).mean()),
        motion=_mean_motion(clips),
        truth_motion=_mean_motion(truths),
    )


def _mean_psnr(tasks: Sequence[Task], clips: Sequence[Clip]) -> float:
    return float(np.mean([psnr(clip.frames[0], task.scene.picture) for task, clip in zip(tasks, clips, strict=True)]))


def _mean_motion(clips: Sequence[Clip]) -> float:
    return float(np.mean([motion(clip.frames)[1:].mean() for clip in clips]))
