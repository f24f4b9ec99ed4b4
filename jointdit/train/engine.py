"""Stages A and B: accelerate's loop over cached clips, with exact resume.

Everything random follows from the seed, the step and the clip (objective.py), the learning rate from the step alone,
and a checkpoint holds weights, their average, the optimizer and the scale of float16's gradients: a run that was killed
goes on with the numbers that it would have had. N processes with a share of the batch each compute what one process
with the whole batch does.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from ..checkpoints.adapter_files import save_adapters
from ..diffusion.denoiser import JointDenoiser
from ..errors import InputError
from ..pipeline import JointDiTPipeline, SamplingSettings
from . import memory
from .average import Averaged, update_average
from .batches import EpochOrder, ReadAhead
from .cache import LatentCache
from .checkpoint import load_state, save_state
from .names import ADAPTERS, BEST, BLOCKS, MODEL, STATE
from .objective import JointObjective, Losses, to_device
from .optimizers import bytes_to_come, gather_state, make_optimizer
from .run_folder import RunLog, describe, result_path, step_to_resume
from .schedule import learning_rate
from .stages import TrainingConfig
from .validation import Validation, hold_out

logger = logging.getLogger(__name__)

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
        self.cache.check_split(config.split)
        self.held_out, self.clips = hold_out(self.cache.names, config.held_out)
        self.order = EpochOrder(self.clips, config.batch, config.seed)
        self.read_ahead = ReadAhead(self.cache, self.share, config.steps)
        self._run = describe(config, self.cache)
        resumed = step_to_resume(config.output, self._run) is not None
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
        self._recent: list[dict[str, float]] = []  # of the steps since the last line of the log
        self._seconds = 0.0  # of training so far
        self.best = -math.inf  # the highest score of a validation so far
        if resumed:
            self._resume(optimizer)
        denoiser = JointDenoiser(pipe.model, pipe.clock)
        path, bucket = pipe.grid(SamplingSettings()), pipe.defaults.motion_bucket
        self.objective = JointObjective(denoiser, path, self.cache.encoding, bucket, config, pipe.video_origin)
        self.optimizer: AcceleratedOptimizer
        # The state is where the parameters are; accelerate would ask for the whole of one that is sharded.
        self.model, self.optimizer = self.accelerator.prepare(self.objective, optimizer, device_placement=[True, False])
        self.validation = Validation(
            pipe, self.objective, self.cache, config, self.accelerator, self.held_out, self.losses
        )
        if config.samples:  # what is asked for and not installed is said now, not at the first validation
            from . import samples  # noqa: F401
        self.records = RunLog(self.folder, self.step, config.tensorboard) if self.accelerator.is_main_process else None
        if config.memory == "auto" and memory.measurable(self.accelerator.device):
            self._plan_memory()

    def _resume(self, optimizer: torch.optim.Optimizer) -> None:
        counters = load_state(self.folder / STATE, self.trained, optimizer, self.average)
        self.step = self._saved = counters["step"]
        self._recent, self._seconds, self.best = counters["recent"], counters["seconds"], counters["best"]
        scaler = self.accelerator.scaler
        if scaler is not None and "scaler" in counters:
            scaler.load_state_dict(counters["scaler"])
        logger.info("resumed at step %d", self.step)
        before, steps = counters["run"]["steps"], self.config.steps
        if steps != before:
            logger.warning("steps is %d and was %d: the learning rate follows another curve from here", steps, before)

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
        config, before, started = self.config, self._seconds, time.monotonic()
        self.model.train()
        while self.step < config.steps and (seconds is None or time.monotonic() - started < seconds):
            done = self.optimize()
            self._recent.append(done)
            self.step += 1
            self._seconds = before + time.monotonic() - started
            if self.step % config.log_every == 0:
                self.log()
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
        """One step: gradients of this process's clips, in micro-batches, then the optimizer. Returns numbers for the
        log, of the clips of all processes."""
        accelerator, config = self.accelerator, self.config
        mine = self.share(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                getattr(config, group["peak"]), self.step, self.step / config.steps, config.warm_steps
            )
        means = self._over_processes(self._backward(mine))
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

    def _over_processes(self, numbers: dict[str, float]) -> dict[str, float]:
        own = torch.tensor(list(numbers.values()), device=self.accelerator.device)
        return dict(zip(numbers, cast(Tensor, self.accelerator.reduce(own, "mean")).tolist(), strict=True))

    def validate(self) -> None:
        """A line of the log about the averaged weights: losses of held-out clips, what the Joint Blocks gain there, and
        sync of clips like them. The weights of the highest gain are kept apart (a); a whole model is written (b)."""
        self.model.eval()
        with self.averaged():
            gain = self.validation.gain(self.step, self.micro_batch)
            record = {
                "step": self.step,
                "held_out": self.validation.held_out_losses(self.micro_batch),
                "gain": gain.numbers,
            }
            if self.config.samples:
                record["samples"] = self.validation.sample(self.step, self.records)
        self.model.train()
        if self.keep_best(gain.mean):
            record["best"] = {"score": gain.mean}
        if self.records is not None:
            self.records.write(record)
            if self.config.stage == "b" and not self.config.adapter_rank:
                self._write_model()

    def keep_best(self, score: float) -> bool:
        """Whether this score of the averaged weights, higher is better, is the best so far. In stage a they are then
        kept as BEST."""
        if not score > self.best:
            return False
        self.best = score
        if self.config.stage == "a":
            self._write_blocks(BEST)
        return True

    def averaged(self) -> Averaged:
        """A context in which the model has its averaged weights."""
        return Averaged(self.trained, self.average)

    def log(self) -> None:
        """A line of the log: means of the steps since the last one."""
        means = {name: sum(step[name] for step in self._recent) / len(self._recent) for name in self._recent[0]}
        self._recent.clear()
        if self.records is not None:
            self.records.write({"step": self.step, "seconds": round(self._seconds, 1), **means})

    def save(self) -> None:
        """The whole state, unless it is on disk already; a kill leaves the old one or the new one. In stage a the Joint
        Blocks as well, to be used while the training goes on."""
        if self._saved == self.step:
            return
        gather_state(self.optimizer.optimizer)
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler  # of float16
            counters = {
                "step": self.step,
                "seconds": self._seconds,
                "recent": self._recent,
                "best": self.best,
                "run": self._run,
            } | ({} if scaler is None else {"scaler": scaler.state_dict()})
            save_state(self.folder / STATE, self.trained, self.optimizer, counters, self.average)
            if self.config.stage == "a":
                self._write_blocks(BLOCKS)
        self._saved = self.step

    def export(self) -> Path:
        """The averaged weights: a Joint Block file (a), a model folder (b), or adapters and a Joint Block file."""
        if self.config.adapter_rank:
            self._write_blocks(BLOCKS)
            self._write_adapters()
        elif self.config.stage == "a":
            self._write_blocks(BLOCKS)
        else:
            self._write_model()
        self.accelerator.wait_for_everyone()
        return result_path(self.config)

    def _write_blocks(self, name: str) -> None:
        if self.accelerator.is_main_process:
            with self.averaged():
                self.pipe.save_joint_blocks(self.folder / name)

    def _write_adapters(self) -> None:
        from .adapters import matrices

        if self.accelerator.is_main_process:
            with self.averaged():
                save_adapters(self.folder / ADAPTERS, matrices(cast(nn.ModuleDict, self.trained)))

    def _write_model(self) -> None:
        if self.accelerator.is_main_process:
            with self.averaged():
                self.pipe.save_pretrained(self.folder / MODEL)
