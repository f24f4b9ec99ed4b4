"""From a configuration to a trained file: model, cache, accelerate, engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from ..models.joint_start import IDENTITY, start_joint_blocks
from ..pipeline import JointDiTPipeline
from .cache import LatentCache
from .cache_index import Measures
from .engine import PRECISIONS, Engine
from .frozen import hold_frozen
from .stages import STARTS, TrainingConfig

OPEN_GATE = 0.5  # where the gates of a random start stand


def train_stage(
    config: TrainingConfig, progress: Callable[[str, int, int], None] | None = None, seconds: float | None = None
) -> Path | None:
    """Train to the last step and return the result's path, or None if `seconds` ended the run before.

    progress: called with ("train", step, steps), first with the step that a checkpoint resumes.
    """
    least = Measures(config.min_loudness, config.min_motion, config.min_sync)
    cache = LatentCache(config.cache, least)
    pipe = _load(config)
    cache.check(pipe)
    pipe.joint_blocks.set_memory(config.query_chunk or None, config.video_pool)
    if config.precision != "float32" and (config.stage == "a" or config.adapter_rank):
        hold_frozen(pipe.model, getattr(torch, config.precision))
    # A batch without an isolated clip, or with isolated ones alone, leaves no weight without a gradient.
    accelerator = Accelerator(
        mixed_precision=PRECISIONS[config.precision],
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=False)],
    )

    def report(step: int, steps: int, loss: float) -> None:
        if progress is not None and accelerator.is_local_main_process:
            progress("train", step, steps)

    engine = Engine(pipe, cache, config, accelerator, report)
    report(engine.step, config.steps, math.nan)
    engine.train(seconds)
    return engine.export() if engine.step == config.steps else None


def _load(config: TrainingConfig) -> JointDiTPipeline:
    joint = None if config.joint in STARTS else config.joint or None
    if config.video_expert:
        pipe = JointDiTPipeline.from_experts(config.video_expert, config.audio_expert, joint)
    else:
        pipe = JointDiTPipeline.from_pretrained(config.model, joint=joint)
    if config.joint in STARTS:
        start_joint_blocks(pipe.joint_blocks, config.seed, 0.0 if config.joint == IDENTITY else OPEN_GATE)
    return pipe
