"""Stages A and B: accelerate's loop over cached clips, with exact resume.

Everything random follows from the seed, the step and the clip (objective.py), the learning rate from the step alone,
and a checkpoint holds weights, their average, the optimizer and the scale of float16's gradients: a run that was killed
goes on with the numbers that it would have had. N processes with a share of the batch each compute what one process
with the whole batch does.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from ..checkpoints.adapter_files import save_adapters
from ..diffusion.denoiser import JointDenoiser
from ..errors import InputError
from ..media import read_clip
from ..pipeline import JointDiTPipeline, SamplingSettings
from . import memory
from .average import update_average
from .batches import EpochOrder, ReadAhead
from .cache import LatentCache
from .checkpoint import load_state, save_state
from .gain import Gain, measure_gain
from .objective import JointObjective, Losses, to_device
from .optimizers import bytes_to_come, gather_state, make_optimizer
from .schedule import learning_rate
from .stages import TrainingConfig

logger = logging.getLogger(__name__)
PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
STATE = "state.safetensors"
BLOCKS = "joint_blocks.safetensors"
ADAPTERS = "adapters"
PATIENCE = 0.2  # part of the run after which Joint Blocks should have gained something
LEVELS = 5  # bins of noise levels in the logs

Report = Callable[[int, int, float], None]


def trained_module(pipe: JointDiTPipeline, stage: str) -> nn.Module:
    """What learns: the Joint Blocks with their adapter (a), or the experts too (b)."""
    return pipe.joint_blocks if stage == "a" else pipe.model


@dataclass
class Engine:
    """A run of training. `train` does it; the parts stand alone for tests and nodes.

    report: called with (step, steps, mean loss) after each step; an exception raised in it ends the run, saved.
    """

    pipe: JointDiTPipeline
    cache: LatentCache
    config: TrainingConfig
    accelerator: Accelerator
    report: Report | None = None
    step: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        config, pipe, processes = self.config, self.pipe, self.accelerator.num_processes
        if config.batch % processes:
            raise InputError(f"batch is {config.batch}, but must be a multiple of the {processes} processes")
        self.held_out, self.clips = hold_out(self.cache.names, config.held_out)
        self.order = EpochOrder(self.clips, config.batch, config.seed)
        self.read_ahead = ReadAhead(self.cache, self.share, config.steps)
        pipe.model.requires_grad_(False)
        if config.adapter_rank:
            from .adapters import add_adapters

            learns = add_adapters(pipe.model, config.adapter_rank, config.adapter_targets, config.seed)
        else:
            learns = trained_module(pipe, config.stage)
        self.trained = learns.requires_grad_(True).float()
        self.average = copy.deepcopy(self.trained).requires_grad_(False)
        device = self.accelerator.device
        pipe.model.to(device)
        self.average.to("cpu" if config.average_on_host else device)
        optimizer = make_optimizer(self._groups(), config.optimizer, config.shard_optimizer)
        pipe.model.gradient_checkpointing = config.gradient_checkpointing
        self.micro_batch = min(config.micro_batch, config.batch // processes)
        self.folder = config.output
        self.folder.mkdir(parents=True, exist_ok=True)
        self._saved: int | None = None  # the step of the state on disk
        if (self.folder / STATE).exists():
            self._resume(optimizer)
        denoiser = JointDenoiser(pipe.model, pipe.clock)
        path, bucket = pipe.grid(SamplingSettings()), pipe.defaults.motion_bucket
        self.objective = JointObjective(denoiser, path, self.cache.encoding, bucket, config)
        self.optimizer: AcceleratedOptimizer
        # The state is where the parameters are; accelerate would ask for the whole of one that is sharded.
        self.model, self.optimizer = self.accelerator.prepare(self.objective, optimizer, device_placement=[True, False])
        self._watch()
        if config.memory == "auto" and memory.measurable(self.accelerator.device):
            self._plan_memory()

    def _resume(self, optimizer: torch.optim.Optimizer) -> None:
        counters = load_state(self.folder / STATE, self.trained, optimizer, self.average)
        self.step = self._saved = counters["step"]
        scaler = self.accelerator.scaler
        if scaler is not None and "scaler" in counters:
            scaler.load_state_dict(counters["scaler"])
        logger.info("resumed at step %d", self.step)

    def _watch(self) -> None:
        """What is asked for and not installed is said now, not at the first validation."""
        self.board = None
        if self.config.samples:
            from . import samples  # noqa: F401
        if self.config.tensorboard and self.accelerator.is_main_process:
            from .board import Board

            self.board = Board(self.folder / "tensorboard", self.step)

    def _plan_memory(self) -> None:
        """Chooses micro-batches and checkpointing by what one clip of the cache takes."""
        device, clips = self.accelerator.device, self.config.batch // self.accelerator.num_processes
        self.model.train()
        for parameter in self.trained.parameters():
            parameter.grad = torch.zeros_like(parameter)

        def run() -> None:
            with self.accelerator.no_sync(self.model):
                self.accelerator.backward(self.losses(self.clips[:1], -1).mean)

        taken = {}
        for checkpointing in (True, False):  # the first run finds room for what all runs share
            self.pipe.model.gradient_checkpointing = checkpointing
            taken[checkpointing] = memory.peak_bytes(device, run)
        free = memory.free_bytes(device) - bytes_to_come(self.optimizer.optimizer)
        self.optimizer.zero_grad()
        plan = memory.plan(free, taken[False], taken[True], clips)
        self.micro_batch, self.pipe.model.gradient_checkpointing = plan.micro_batch, plan.checkpointing
        logger.info("%d clips at once, gradient checkpointing %s", plan.micro_batch, plan.checkpointing)

    def _groups(self) -> list[dict]:
        new = {id(parameter) for parameter in self.pipe.joint_blocks.parameters()}
        old = "adapter_rate" if self.config.adapter_rank else "expert_rate"
        groups: dict[str, list[nn.Parameter]] = {"rate": [], old: []}
        for parameter in self.trained.parameters():
            groups["rate" if id(parameter) in new else old].append(parameter)
        return [{"params": parameters, "peak": name} for name, parameters in groups.items() if parameters]

    def train(self, seconds: float | None = None) -> None:
        """Up to the configured step, or for about `seconds`; then the state is saved.

        Whoever stops the run from `report` finds it saved; whoever kills it, as it was at the last checkpoint.
        """
        config, started, recent = self.config, time.monotonic(), []
        self.model.train()
        while self.step < config.steps and (seconds is None or time.monotonic() - started < seconds):
            done = self.optimize()
            recent.append(done)
            self.step += 1
            if self.step % config.log_every == 0:
                self.log(recent, time.monotonic() - started)
                recent.clear()
            if self.step % config.validate_every == 0:
                self.validate()
            if self.step % config.save_every == 0:
                self.save()
            if self.report is not None:
                self._report(self.report, done["loss"])
        self.save()

    def _report(self, report: Report, loss: float) -> None:
        try:
            report(self.step, self.config.steps, loss)
        except BaseException:  # Ctrl-C and a node's interrupt too: between steps the state is whole
            self.save()
            raise

    def numbers(self, step: int) -> list[int]:
        """The clips of a step, for all processes: every epoch goes through the cache in an order of its own."""
        return self.order.numbers(step)

    def share(self, step: int) -> list[int]:
        """Those of them that this process sees."""
        share = self.config.batch // self.accelerator.num_processes
        return self.numbers(step)[self.accelerator.process_index * share :][:share]

    def optimize(self) -> dict[str, float]:
        """One step: gradients of this process's clips, in micro-batches, then the optimizer."""
        accelerator, config = self.accelerator, self.config
        mine = self.share(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                getattr(config, group["peak"]), self.step, self.step / config.steps, config.warmup
            )
        means = self._backward(mine)
        norm = cast(Tensor, accelerator.clip_grad_norm_(self.trained.parameters(), config.clip_norm))
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        update_average(self.average, self.trained, self.step + 1, config.average)
        return means | {"gradient_norm": float(norm), "rate": rate}

    def _backward(self, numbers: Sequence[int]) -> dict[str, float]:
        """Adds up the gradients of these clips. Where memory runs out and may be saved, smaller parts are tried."""
        while True:
            try:
                return self._backward_parts(numbers)
            except torch.OutOfMemoryError:
                if self.config.memory == "fixed":
                    raise
            self.optimizer.zero_grad()
            if not self.pipe.model.gradient_checkpointing:
                self.pipe.model.gradient_checkpointing = True
            elif self.micro_batch > 1:
                self.micro_batch //= 2
            else:
                raise InputError("one clip with gradient checkpointing does not fit into memory; use smaller clips")
            logger.info("memory ran out: gradient checkpointing, %d clips at once", self.micro_batch)

    def _backward_parts(self, numbers: Sequence[int]) -> dict[str, float]:
        parts = [numbers[first : first + self.micro_batch] for first in range(0, len(numbers), self.micro_batch)]
        means: dict[str, float] = defaultdict(float)
        for part in parts:
            weight = len(part) / len(numbers)
            with nullcontext() if part is parts[-1] else self.accelerator.no_sync(self.model):
                losses = self.losses(part, self.step)
                self.accelerator.backward(losses.mean * weight)
            for name, loss in {"loss": losses.mean, **losses.parts}.items():
                means[name] += weight * loss.mean().item()
        return dict(means)

    def losses(self, numbers: Sequence[int], step: int) -> Losses:
        """Losses of clips with their draws at a step."""
        clips = self.cache.batch(numbers) if step < 0 else self.read_ahead.batch(numbers, step)
        draws = self.objective.draw(clips, numbers, step)
        device = self.accelerator.device
        with self.accelerator.autocast():
            return self.model(to_device(clips, device), to_device(draws, device))

    def validate(self) -> None:
        """A line of log.jsonl about the averaged weights: losses of held-out clips, and sync of clips like them."""
        self.model.eval()
        with self.averaged():
            record = {"step": self.step, "held_out": self.held_out_losses(), "gain": self.gain().numbers}
            if self.config.samples:
                record["samples"] = self.sample()
        self.model.train()
        self._write(record)

    @torch.no_grad()
    def held_out_losses(self) -> dict[str, float]:
        """Losses of the held-out clips, by modality and by noise level (0 is clean)."""
        numbers = self.held_out
        parts = [numbers[first : first + self.micro_batch] for first in range(0, len(numbers), self.micro_batch)]
        found = [self.losses(part, -1) for part in parts]
        clock = self.objective.denoiser.clock
        scores: dict[str, float] = {}
        for name in ("video", "audio"):
            losses = torch.cat([getattr(each, name) for each in found]).cpu()
            if name == "video":
                u = clock.video_u(torch.cat([each.levels.video_sigma for each in found]).cpu())
            else:
                u = clock.audio_u(torch.cat([each.levels.audio_timestep for each in found]).cpu())
            scores[name] = losses.mean().item()
            for level in range(LEVELS):
                inside = (u * LEVELS).long().clamp(0, LEVELS - 1) == level
                if inside.any():
                    scores[f"{name}_{level / LEVELS:.1f}"] = losses[inside].mean().item()
        return scores

    def gain(self) -> Gain:
        """What the Joint Blocks gain on held-out clips (gain.py), with a warning once they should and do not."""
        with self.accelerator.autocast():
            gain = measure_gain(self.objective, self.cache, self.held_out, self.micro_batch, self.accelerator.device)
        if self.config.stage == "a" and gain.nothing and self.step >= PATIENCE * self.config.steps:
            logger.warning(
                "step %d: the sound gains nothing from its picture (%.4f, standard error %.4f). Is rate %g too low or "
                "too high, are there too few clips, or do their sounds not come from what is seen?",
                self.step,
                *gain.of("audio"),
                self.config.rate,
            )
        return gain

    def sample(self) -> dict[str, float]:
        """Clips of held-out pictures and captions, into `samples/STEP`, and their scores. Processes share the work."""
        from .samples import sample_clips, sync_scores

        accelerator = self.accelerator
        folder = self.folder / "samples" / f"{self.step:07d}"
        folder.mkdir(parents=True, exist_ok=True)
        numbers = self.held_out[: self.config.samples]
        paths = {number: folder / f"{place:03d}.mp4" for place, number in enumerate(numbers)}
        mine = numbers[accelerator.process_index :: accelerator.num_processes]
        clips = sample_clips(self.pipe, self.objective, self.cache, mine, accelerator.device, accelerator.autocast)
        for number, clip in zip(mine, clips, strict=True):
            clip.save(paths[number])
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            return {}
        made = {path.stem: read_clip(path) for path in paths.values()}
        if self.board is not None:
            for name, clip in made.items():
                self.board.clip(self.step, name, clip)
        return sync_scores(list(made.values()))

    def averaged(self) -> Averaged:
        """A context in which the model has its averaged weights."""
        return Averaged(self.trained, self.average)

    def log(self, recent: Sequence[dict[str, float]], seconds: float) -> None:
        """A line of log.jsonl: means of the steps since the last one, over all processes."""
        names = list(recent[0])
        steps = torch.tensor([[each[name] for name in names] for each in recent], device=self.accelerator.device)
        means = cast(Tensor, self.accelerator.reduce(steps.mean(0), "mean")).tolist()
        self._write({"step": self.step, "seconds": round(seconds, 1), **dict(zip(names, means, strict=True))})

    def _write(self, record: Mapping[str, Any]) -> None:
        """Numbers, and groups of numbers, to where they are looked at."""
        if not self.accelerator.is_main_process:
            return
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        logger.info("%s", record)
        if self.board is not None:
            groups = {name: value for name, value in record.items() if isinstance(value, Mapping)}
            groups["train"] = {name: value for name, value in record.items() if name not in {"step", *groups}}
            for name, values in groups.items():
                self.board.numbers(self.step, name, values)

    def save(self) -> None:
        """The whole state, unless it is on disk already; a kill leaves the old one or the new one."""
        if self._saved == self.step:
            return
        gather_state(self.optimizer.optimizer)
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler  # of float16
            counters = {"step": self.step} | ({} if scaler is None else {"scaler": scaler.state_dict()})
            save_state(self.folder / STATE, self.trained, self.optimizer, counters, self.average)
        self._saved = self.step

    def export(self) -> Path:
        """The averaged weights: a Joint Block file (a), a whole model folder (b), or with adapters a folder that has a
        Joint Block file and the folder of the adapters."""
        if self.config.adapter_rank:
            return self._export_adapters()
        joint_only = self.config.stage == "a"
        path = self.folder / (BLOCKS if joint_only else "model")
        if self.accelerator.is_main_process:
            with self.averaged():
                (self.pipe.save_joint_blocks if joint_only else self.pipe.save_pretrained)(path)
        self.accelerator.wait_for_everyone()
        return path

    def _export_adapters(self) -> Path:
        from .adapters import matrices

        if self.accelerator.is_main_process:
            with self.averaged():
                self.pipe.save_joint_blocks(self.folder / BLOCKS)
                save_adapters(self.folder / ADAPTERS, matrices(cast(nn.ModuleDict, self.trained)))
        self.accelerator.wait_for_everyone()
        return self.folder


def hold_out(names: Sequence[str], count: int) -> tuple[list[int], list[int]]:
    """Numbers of at least `count` clips that are never trained on, and of the others.

    Recordings stay whole: the last one that is held out may bring more clips than asked. Which ones are held out
    follows from their names, not from their order.
    Raises InputError if that leaves nothing to train on.
    """
    recordings: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        recordings.setdefault(name.rpartition("#")[0], []).append(number)
    order = sorted(recordings, key=lambda recording: hashlib.sha256(recording.encode()).digest())
    held_out: list[int] = []
    while order and len(held_out) < count:
        held_out += recordings[order.pop(0)]
    if not order:
        raise InputError(
            f"held_out is {count}, which leaves none of the {len(names)} clips of {len(recordings)} recording(s) to "
            "train on, because recordings are held out whole; lower it, or cache more recordings"
        )
    return held_out, sorted(number for recording in order for number in recordings[recording])


class Averaged:
    """Puts averaged weights into a module for the time of a `with` block."""

    def __init__(self, module: nn.Module, average: nn.Module) -> None:
        self.module, self.average = module, average

    def __enter__(self) -> None:
        average = self.average.state_dict()
        tensors = self.module.state_dict().items()
        self.kept = {name: tensor.to(average[name].device, copy=True) for name, tensor in tensors}
        self.module.load_state_dict(average)

    def __exit__(self, *error: object) -> None:
        self.module.load_state_dict(self.kept)
