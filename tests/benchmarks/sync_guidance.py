"""Sync without training: what each strength and interval gains in sync, and what it costs in sound.

    python tests/benchmarks/sync_guidance.py --json docs/logs/sync_guidance.json

Picture and sound never see each other in the model (isolated passes), so whatever is in sync is by this guidance or by
chance. The guidance leaves the video alone, which is sampled once for all settings.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jointdit import JointCFG, JointDiTPipeline
from jointdit.diffusion import samplers
from jointdit.diffusion.denoiser import JointDenoiser, clean_audio, scale_audio
from jointdit.diffusion.guidance import GuidedDenoiser
from jointdit.diffusion.schedules import Levels, NoiseClock, SamplingGrid
from jointdit.diffusion.sync_guidance import SyncedDenoiser, SyncGuidance, loudness_readout
from jointdit.evaluate import observe, sync_by_effect
from jointdit.evaluate.align import Curves, motion_loudness
from jointdit.evaluate.effects import EffectJudge, train_judges
from jointdit.evaluate.generated import Task, autoencoded, draw_tasks
from jointdit.evaluate.scores import Margin
from jointdit.evaluate.seen import motion
from jointdit.latents import JointLatents
from jointdit.media import Clip
from jointdit.models.model import Conditioning
from jointdit.pipeline import Conditions

EFFECTS = ("ball", "lightning", "hammer", "heartbeat", "pendulum", "drops", "bell", "fireworks")  # those with events
SIGMAS = (700.0, 220.0, 55.0, 24.0, 9.7, 3.4, 1.0, 0.2, 0.0)  # most steps where the video's motion is decided
SUBSTEPS = 2
GUIDANCE = JointCFG(mode="cfg", video_scale=1.0, audio_scale=2.5)  # tiny's own, without what the modalities agree on
SETTINGS = (
    SyncGuidance(0),
    *(SyncGuidance(strength, interval) for interval in ((0, 700), (0, 30), (0, 5)) for strength in (0.1, 0.2, 0.5)),
)


class RecordedVideo:
    """A denoiser of the isolated audio, beside the video's estimates of another run by their noise level."""

    def __init__(self, pipe: JointDiTPipeline, conditions: Conditions, estimates: dict[float, Tensor]) -> None:
        self.model, self.estimates = pipe.model, estimates
        self.conditioning = Conditioning.cat([conditions.conditional, conditions.unconditional])

    def __call__(self, x: JointLatents, levels: Levels, keep: bool = False):
        return JointLatents(self.estimates[levels.video_sigma.item()], self.audio(x.audio, levels)), self.audio

    def audio(self, audio: Tensor, levels: Levels) -> Tensor:
        twice = audio.repeat(2, 1, 1, 1)
        levels = levels.select(torch.arange(len(twice)))
        raw = self.model.audio_alone(scale_audio(twice, levels), levels.audio_timestep, self.conditioning)
        conditional, unconditional = clean_audio(twice, raw, levels).chunk(2)
        return torch.lerp(unconditional, conditional, GUIDANCE.audio_scale)


class Batch:
    """Clips that are sampled together: their pictures at once, and their sounds whenever asked, from the same noise."""

    def __init__(self, pipe: JointDiTPipeline, grid: SamplingGrid, tasks: Sequence[Task], seed: int) -> None:
        shape, generator = pipe.shape(), torch.Generator().manual_seed(seed)
        self.pipe, self.grid, self.shape = pipe, grid, shape
        pictures, prompts = [task.scene.picture for task in tasks], [task.prompt for task in tasks]
        self.conditions = pipe.condition(pictures, prompts, [None] * len(tasks), shape, generator)
        layout = pipe.layout
        noise = [
            torch.randn(of(shape, len(tasks)), generator=generator) for of in (layout.video_shape, layout.audio_shape)
        ]
        self.start = samplers.initial_noise(JointLatents(*noise), grid, pipe.defaults.video_temperature)
        self.readout = loudness_readout(pipe.audio_codec)
        clock = NoiseClock(pipe.video_scheduler, pipe.audio_scheduler)
        both = (self.conditions.conditional, self.conditions.unconditional)
        isolated = GuidedDenoiser(JointDenoiser(pipe.model, clock), GUIDANCE, *both, isolated=True)
        self.estimates: dict[float, Tensor] = {}

        def record(done: int, steps: int, estimate: JointLatents) -> None:
            self.estimates[grid.levels(done - 1).video_sigma.item()] = estimate.video

        self.frames = pipe.decode_video(samplers.euler(isolated, self.start, grid, record).video)

    def clips(self, sync: SyncGuidance) -> list[Clip]:
        denoise = SyncedDenoiser(RecordedVideo(self.pipe, self.conditions, self.estimates), sync, self.readout)
        sounds = self.pipe.decode_audio(samplers.euler(denoise, self.start, self.grid).audio, self.shape)
        rate = self.pipe.layout.sample_rate
        return [Clip(frames, self.shape.fps, sound, rate) for frames, sound in zip(self.frames, sounds, strict=True)]


def score(tasks: Sequence[Task], clips: Sequence[Clip], judge: EffectJudge) -> dict[str, object]:
    """What is gained and what it costs. judge: of sounds."""
    effects = [task.scene.effect for task in tasks]
    sync = sync_by_effect([observe(clip, effect) for clip, effect in zip(clips, effects, strict=True)])["all"]
    nothing = np.empty(0)  # events, of which this score needs none
    curves = [
        Curves(nothing, nothing, motion(clip.frames), clip.audio, clip.sample_rate, float(clip.fps)) for clip in clips
    ]
    table = np.array([[motion_loudness(seen, heard) for heard in curves] for seen in curves])
    own = np.diag(table)
    loudness = [10 * np.log10(np.square(clip.audio).mean() + 1e-12) for clip in clips]
    return {
        "seen_heard": asdict(sync.seen_heard),
        "heard_seen": asdict(sync.heard_seen),
        "motion_loudness": asdict(Margin.of(own, (table.sum(1) - own) / (len(clips) - 1))),
        "seen_per_clip": sync.seen_per_clip,
        "heard_per_clip": sync.heard_per_clip,
        "sound_named_rightly": float(np.mean(np.array(judge.name(clips)) == effects)),
        "loudness_dBFS": float(np.mean(loudness)),
    }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=5000)
    parser.add_argument("--judge-scenes", type=int, default=12, help="of each effect")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    pipe = JointDiTPipeline.from_pretrained(arguments.model)
    clock = NoiseClock(pipe.video_scheduler, pipe.audio_scheduler)
    timesteps = torch.linspace(pipe.defaults.audio_start or 999, 0, (len(SIGMAS) - 1) * SUBSTEPS + 1)
    grid = clock.grid(sigmas=torch.tensor(SIGMAS), audio=timesteps, audio_substeps=SUBSTEPS)
    tasks = draw_tasks(arguments.clips, arguments.seed, pipe.shape(), EFFECTS)
    batches = [
        Batch(pipe, grid, tasks[first : first + arguments.batch], arguments.seed + first)
        for first in range(0, len(tasks), arguments.batch)
    ]
    judge, _ = train_judges(EFFECTS, arguments.judge_scenes, 3, lambda clip: autoencoded(pipe, clip))
    result = {
        "command": f"python tests/benchmarks/sync_guidance.py --clips {arguments.clips} --seed {arguments.seed}",
        "model": arguments.model,
        "sigmas": SIGMAS,
        "audio_timesteps": timesteps.tolist(),
        "judge_on_unseen_scenes": judge.accuracy,
        "settings": [],
    }
    for sync in SETTINGS:
        clips = [clip for batch in batches for clip in batch.clips(sync)]
        result["settings"].append({**asdict(sync), **score(tasks, clips, judge)})
        print(json.dumps(result["settings"][-1]), flush=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
