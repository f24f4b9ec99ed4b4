"""From a configuration to a trained file: model, cache, accelerate, engine."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs

from ..checkpoints.components import IDENTITY
from ..media.files import refuse_sources
from ..models.joint_start import start_joint_blocks
from ..pipeline import JointDiTPipeline
from .cache import LatentCache
from .cache_index import Measures
from .engine import Engine
from .frozen import hold_frozen
from .names import BEST, BLOCKS
from .precision import choose_precision, make_accelerator
from .run_folder import describe, locked, result_path, step_to_resume
from .stages import STARTS, TrainingConfig

logger = logging.getLogger(__name__)
OPEN_GATE = 0.5  # where the gates of a random start stand
SHOWN = 20  # steps over which the loss that is shown is averaged, about

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    result: the path of what was trained, or None if it ended before its last step.
    steps: how many were made now; none if it was finished before.
    processes: how many shared the work.
    """

    result: Path | None
    steps: int
    processes: int


def train_stage(config: TrainingConfig, progress: Progress | None = None, seconds: float | None = None) -> Outcome:
    """Trains to the last step, or for about `seconds`. A run that is finished already is left as it is.

    progress: called with ("train", step, steps, a text with the loss), first with the step that a checkpoint resumes.
    Raises InputError if another run has the output folder, or writes there now.
    """
    for name in (BLOCKS, BEST) if config.joint and config.joint not in STARTS else ():
        refuse_sources(config.output / name, [config.joint])
    # Without a GPU, the processes that a launcher started find each other only if told to use CPUs.
    state = PartialState(cpu=not _has_gpu())
    precision = choose_precision(config.precision, torch.device(state.device or "cpu"))
    # Every trained weight gets a gradient in every batch, with isolated clips, without them and with them alone.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=False)
    accelerator = make_accelerator(precision, kwargs_handlers=[parallel])
    with locked(config.output) if accelerator.is_main_process else nullcontext():
        cache = LatentCache(config.cache, Measures(config.min_loudness, config.min_motion, config.min_sync))
        cache.check_split(config.split)  # before a model is loaded
        result = result_path(config)
        if step_to_resume(config.output, describe(config, cache)) == config.steps and result.exists():
            return Outcome(result, 0, accelerator.num_processes)
        pipe = _load(config)
        cache.check(pipe)
        pipe.joint_blocks.set_memory(config.query_chunk or None, config.video_pool)
        if precision != "float32" and (config.stage == "a" or config.adapter_rank):
            hold_frozen(pipe.video_unet, getattr(torch, precision))
        if accelerator.is_main_process:
            logger.info("%s on %s, %d process(es)", precision, accelerator.device, accelerator.num_processes)
            if config.warm_steps < config.warmup:
                logger.info("warm-up of %d steps, a tenth of the run (warmup is %d)", config.warm_steps, config.warmup)
        engine = Engine(pipe, cache, config, accelerator, _reporter(accelerator, progress))
        first = engine.step
        if progress is not None and accelerator.is_local_main_process:
            progress("train", first, config.steps, "")
        engine.train(seconds)
        finished = engine.step == config.steps
        return Outcome(engine.export() if finished else None, engine.step - first, accelerator.num_processes)


def _reporter(accelerator: Accelerator, progress: Progress | None) -> Callable[[int, int, float], None] | None:
    """What the engine calls after each step."""
    if progress is None or not accelerator.is_local_main_process:
        return None
    mean = math.nan

    def report(step: int, steps: int, loss: float) -> None:
        nonlocal mean
        mean = loss if math.isnan(mean) else mean + (loss - mean) / SHOWN
        progress("train", step, steps, f"loss {mean:.4g}")

    return report


def _has_gpu() -> bool:
    return torch.cuda.is_available() or torch.xpu.is_available() or torch.backends.mps.is_available()


def _load(config: TrainingConfig) -> JointDiTPipeline:
    joint = None if config.joint in STARTS else config.joint or None
    if config.video_expert:
        pipe = JointDiTPipeline.from_experts(
            config.video_expert,
            config.audio_expert,
            joint,
            frames=config.expert_frames or None,
            audio_heads=config.audio_heads,  # type: ignore[arg-type]  # checked with the other options
        )
    else:
        pipe = JointDiTPipeline.from_pretrained(config.model, joint=joint)
    if config.joint in STARTS:
        start_joint_blocks(pipe.joint_blocks, config.seed, 0.0 if config.joint == IDENTITY else OPEN_GATE)
    return pipe
