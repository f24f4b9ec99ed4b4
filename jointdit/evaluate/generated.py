"""A model put to the test: clips on the first pictures of synthetic scenes, with captions, measured from their files.

Sampling sees a picture and a text. The effect and its times are known to the measures alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray

from ..encoders.autoencoders import to_model_range
from ..latents import ClipShape
from ..media import Clip, read_clip
from ..pipeline import JointDiTPipeline, SamplingSettings
from ..synthetic import EFFECTS, Scene, render_scene, suggested_effect
from .distance import Frechet, picture_windows, sound_windows
from .effects import EffectJudge
from .heard import SILENT, mean_loudness
from .picture import colour_drift, psnr
from .prompts import FRESH_WORDS, UNSEEN_WORDS
from .scores import share
from .seen import motion
from .sync import CurveSync, EventSync, observe, sync_by_effect

FIRST_SEED = 600_000_000  # training renders scenes of seeds far below and above

Progress = Callable[[int, int], None]
Prompts = Literal["captions", "unseen", "fresh", "none"]


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked of the model (a picture and perhaps a prompt), and the scene that they are from."""

    prompt: str | None
    scene: Scene

    @property
    def truth(self) -> Clip:
        """The scene as a clip."""
        return Clip(self.scene.frames, self.scene.fps, self.scene.audio[None], self.scene.sample_rate)

    @property
    def asked(self) -> str:
        """The effect that is asked for: by the prompt, or else by what the picture suggests."""
        return self.scene.effect if self.prompt is not None else suggested_effect(self.scene.picture)


@dataclass(frozen=True)
class Named:
    """What the judge of one modality says. right: share of the generated clips that are the effect of `Task.asked`.

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
    """Means over clips. PSNR in dB against the given picture: of the first frame, and of the video autoencoder alone;
    of the second frame, which a model may not copy, and of the scenes' (what happens has begun there).
    drift: of red, green and blue over the clip, mean and mean size, in grey levels; truth_drift: that of the scenes.
    """

    psnr_first_frame: float
    psnr_autoencoder: float
    psnr_second_frame: float
    truth_psnr_second_frame: float
    drift: tuple[float, float, float]
    drift_size: float
    truth_drift_size: float
    motion: float
    truth_motion: float


@dataclass(frozen=True)
class ModelScores:
    """All scores of a model. sync: by effect; without prompts by the effect that is seen.    truth_sync: of the same
    scenes' truth through the model's autoencoders: the most that can be reached.    true_events: events a clip in the
    scenes that have any.    agree: share of the clips, with its interval, in which the effect that is heard is the one
    that is seen.    sound_distance, picture_distance: from the same truth.
    """

    clips: int
    sync: dict[str, EventSync | CurveSync]
    truth_sync: dict[str, EventSync | CurveSync]
    true_events: float
    sound: Named
    pictures: Named
    agree: tuple[float, tuple[float, float]]
    picture: PictureScores
    loudness_dbfs: float
    silent: float
    sound_distance: Frechet
    picture_distance: Frechet


def draw_tasks(
    clips: int,
    seed: int,
    shape: ClipShape,
    effects: Sequence[str] = EFFECTS,
    prompts: Prompts = "captions",
    photos: Sequence[NDArray[np.uint8]] = (),
    progress: Progress = lambda done, total: None,
) -> list[Task]:
    """Scenes of the effects in turn, none of which training renders.

    prompts: the scenes' captions, words of `UNSEEN_WORDS` or of `FRESH_WORDS`, or none.    photos: the pictures, in
    turn, instead of drawn ones; each effect meets all of them.
    """
    tasks = []
    for index in range(clips):
        turn, place = divmod(index, len(effects))
        scene = render_scene(
            FIRST_SEED + seed + index,
            effect=effects[place],
            frames=shape.frames,
            fps=shape.fps,
            height=shape.height,
            width=shape.width,
            picture=photos[(index + turn) % len(photos)] if photos else None,
        )
        if prompts == "captions":
            prompt = scene.caption
        elif prompts == "none":
            prompt = None
        else:
            words = {"unseen": UNSEEN_WORDS, "fresh": FRESH_WORDS}[prompts][scene.effect]
            prompt = words[turn % len(words)]
        tasks.append(Task(prompt, scene))
        progress(index + 1, clips)
    return tasks


def generate_clips(
    pipe: JointDiTPipeline,
    tasks: Sequence[Task],
    seed: int,
    folder: Path,
    batch: int = 4,
    progress: Progress = lambda done, total: None,
    shape: ClipShape | None = None,
    settings: SamplingSettings = SamplingSettings(),  # noqa: B008, frozen
) -> list[Clip]:
    """One clip for each task, as it comes back from its file in `folder`; those that are there are kept.

    shape, settings: of every clip; the model's own if left out. Each clip has noise of its own, whatever else is in its
    batch.
    """
    shape = shape or pipe.shape()

    def generate(numbers: Sequence[int]) -> Sequence[Clip]:
        return pipe(
            [tasks[number].scene.picture for number in numbers],
            [tasks[number].prompt for number in numbers],
            frames=shape.frames,
            fps=shape.fps,
            height=shape.height,
            width=shape.width,
            settings=settings,
            generator=[torch.Generator().manual_seed(seed + number) for number in numbers],
        )

    return _kept(folder, len(tasks), batch, generate, progress)


def autoencode_truth(
    pipe: JointDiTPipeline,
    tasks: Sequence[Task],
    folder: Path,
    progress: Progress = lambda done, total: None,
) -> list[Clip]:
    """The scenes through the model's autoencoders and a file each, as `generate_clips` does it with what is sampled."""
    return _kept(
        folder, len(tasks), 1, lambda numbers: [autoencoded(pipe, tasks[number].truth) for number in numbers], progress
    )


def _kept(
    folder: Path,
    count: int,
    batch: int,
    make: Callable[[Sequence[int]], Sequence[Clip]],
    progress: Progress,
) -> list[Clip]:
    """Clips 000000.mp4, 000001.mp4, ... of a folder, made where they are missing, and read back."""
    paths = [folder / f"{number:06d}.mp4" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    progress(count - len(missing), count)
    for first in range(0, len(missing), batch):
        numbers = missing[first : first + batch]
        for number, clip in zip(numbers, make(numbers), strict=True):
            clip.save(paths[number])
        progress(count - len(missing) + first + len(numbers), count)
    return [read_clip(path) for path in paths]


@torch.no_grad()
def autoencoded(pipe: JointDiTPipeline, clip: Clip) -> Clip:
    """The clip through the model's autoencoders and its vocoder, as if the model had made just this."""
    pixels = to_model_range(rearrange(torch.from_numpy(clip.frames), "f h w c -> 1 f c h w"))
    frames = pipe.decode_video(pipe.video_codec.encode_video(pixels.to(pipe.device)))[0]
    samples = torch.from_numpy(clip.audio).to(pipe.device)
    audio = pipe.audio_codec.decode_audio(pipe.audio_codec.encode_audio(samples), samples.shape[-1])
    return Clip(frames, clip.fps, audio.cpu().numpy(), clip.sample_rate)


def score_clips(
    tasks: Sequence[Task], clips: Sequence[Clip], truths: Sequence[Clip], judges: tuple[EffectJudge, EffectJudge]
) -> ModelScores:
    """Scores generated clips. truths: of `autoencode_truth`.    judges: of sound and of pictures."""
    effects = [task.scene.effect for task in tasks]
    heard, seen = (judge.name(clips) for judge in judges)
    sound, pictures = (_named(judge, names, tasks, truths) for judge, names in zip(judges, (heard, seen), strict=True))
    events = [len(task.scene.events) for task in tasks if task.scene.curve is None]
    loudness = [mean_loudness(clip.audio) for clip in clips]
    shown = effects if all(task.prompt is not None for task in tasks) else seen
    return ModelScores(
        clips=len(clips),
        sync=sync_by_effect([observe(clip, effect) for clip, effect in zip(clips, shown, strict=True)]),
        truth_sync=sync_by_effect([observe(clip, effect) for clip, effect in zip(truths, effects, strict=True)]),
        true_events=float(np.mean(events)) if events else float("nan"),
        sound=sound,
        pictures=pictures,
        agree=share(np.array(heard) == seen),
        picture=_picture(tasks, clips, truths),
        loudness_dbfs=float(np.mean(loudness)),
        silent=float(np.mean(np.array(loudness) < SILENT)),
        sound_distance=Frechet.of(*([sound_windows(clip) for clip in each] for each in (clips, truths))),
        picture_distance=Frechet.of(*([picture_windows(clip) for clip in each] for each in (clips, truths))),
    )


def _named(judge: EffectJudge, names: Sequence[str], tasks: Sequence[Task], truths: Sequence[Clip]) -> Named:
    asked, shown = np.array([task.asked for task in tasks]), [task.scene.effect for task in tasks]
    right = np.asarray(names) == asked
    mean, interval = share(right)
    return Named(
        right=mean,
        interval=interval,
        by_effect={effect: right[asked == effect].mean().item() for effect in sorted(set(asked.tolist()))},
        held_out=judge.accuracy,
        held_out_by_effect=judge.by_effect,
        autoencoded=float(np.mean(np.array(judge.name(truths)) == shown)),
    )


def _picture(tasks: Sequence[Task], clips: Sequence[Clip], truths: Sequence[Clip]) -> PictureScores:
    drifts, true_drifts = ([colour_drift(clip.frames) for clip in each] for each in (clips, truths))
    red, green, blue = np.mean(drifts, 0)
    return PictureScores(
        psnr_first_frame=_mean_psnr(tasks, clips),
        psnr_autoencoder=_mean_psnr(tasks, truths),
        psnr_second_frame=_mean_psnr(tasks, clips, frame=1),
        truth_psnr_second_frame=_mean_psnr(tasks, truths, frame=1),
        drift=(float(red), float(green), float(blue)),
        drift_size=float(np.abs(drifts).mean()),
        truth_drift_size=float(np.abs(true_drifts).mean()),
        motion=_mean_motion(clips),
        truth_motion=_mean_motion(truths),
    )


def _mean_psnr(tasks: Sequence[Task], clips: Sequence[Clip], frame: int = 0) -> float:
    """Of a frame, or of the last one if there are fewer, against the picture."""
    shown = [clip.frames[min(frame, len(clip.frames) - 1)] for clip in clips]
    return float(np.mean([psnr(each, task.scene.picture) for task, each in zip(tasks, shown, strict=True)]))


def _mean_motion(clips: Sequence[Clip]) -> float:
    return float(np.mean([motion(clip.frames)[1:].mean() for clip in clips]))
