"""One loop for every stage of the recipe: a cosine learning rate, a log of JSON lines, and exact resume."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...train.average import update_average
from ...train.checkpoint import load_state, save_state
from ...train.schedule import learning_rate
from .muon import Muon, is_matrix
from .peers import Peers

logger = logging.getLogger(__name__)
STATE = "state.safetensors"


class Objective(Protocol):
    """A model and what its training minimises. `loss` draws all its randomness from the generator."""

    @property
    def model(self) -> nn.Module: ...

    def loss(self, generator: torch.Generator, progress: float) -> Tensor: ...

    def evaluate(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class Budget:
    """How long a run is: `steps`, or `minutes` of training over all its starts. Only `steps` repeats exactly.

    Raises InputError unless one of them is given, above zero.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.minutes) if value is not None]
        if len(given) != 1 or not 0 < given[0] < math.inf:
            raise InputError(f"the budget is steps={self.steps}, minutes={self.minutes}; give one of them, above zero")

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 at the end."""
        spent = ((step, self.steps), (seconds / 60, self.minutes))
        return max(done / whole for done, whole in spent if whole is not None)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of training.

    rate: peak learning rate.    log_every, evaluate_every: steps.    save_seconds: between two saved states.
    average_decay: of the averaged weights, where a stage has them.    muon: matrices are moved by `Muon`.
    """

    budget: Budget
    rate: float
    seed: int = 0
    log_every: int = 50
    evaluate_every: int = 500
    save_seconds: float = 120.0
    average_decay: float = 0.997
    muon: bool = False


def step_generator(seed: int, step: int, process: int = 0) -> torch.Generator:
    """A generator of its own for each step and process, so that no random state has to be stored to resume."""
    return torch.Generator().manual_seed((seed << 32) + (process << 24) + step)


def make_optimizer(
    model: nn.Module, factors: Mapping[str, float], muon: bool, bfloat16: bool = False
) -> torch.optim.Optimizer:
    """Adam, or `Muon` for the matrices, over parameters by the factor of their learning rate."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        matrix = muon and is_matrix(name, parameter)
        factor = next((factors[prefix] for prefix in factors if name.startswith(f"{prefix}.")), 1.0)
        groups.setdefault((1.0 if matrix else factor, matrix), []).append(parameter)
    listed = [
        {"params": parameters, "factor": factor, "matrices": matrix} for (factor, matrix), parameters in groups.items()
    ]
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    return Muon(listed, dtype=dtype) if muon else torch.optim.AdamW(listed, betas=(0.9, 0.98), weight_decay=0.0)


def fit(
    objective: Objective,
    folder: Path,
    stage: Stage,
    average: nn.Module | None = None,
    factors: Mapping[str, float] | None = None,
    bfloat16: bool = False,
) -> None:
    """Train `objective.model` in place; go on from `folder/state.safetensors` if it is there. Logs go to
    `folder/log.jsonl`.

    average: a copy of the model that follows it as an exponential moving average.
    factors: by the beginning of parameters' names, what their learning rate is multiplied by.
    bfloat16: compute the losses under autocast, and the steps of Muon.
    Processes of `torchrun` share a run: a step has the samples of all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, model, budget, peers = folder / STATE, objective.model, stage.budget, Peers.join()
    optimizer = make_optimizer(model, factors or {}, stage.muon, bfloat16)
    step, seconds = 0, 0.0
    if path.exists():
        counters = load_state(path, model, optimizer, average)
        step, seconds = counters["step"], counters["seconds"]
        logger.info("resumed at step %d, after %.0f s", step, seconds)
    model.train()
    clock = saved = time.monotonic()
    running: list[float] = []
    while (progress := budget.progress(step, peers.agree(seconds))) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(stage.rate, step, progress)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = objective.loss(step_generator(stage.seed, step, peers.rank), progress)
        optimizer.zero_grad()
        loss.backward()
        peers.average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if average is not None:
            update_average(average, model, step, stage.average_decay)
        running.append(loss.item())
        now = time.monotonic()
        seconds, clock = seconds + now - clock, now
        if peers.rank:
            continue
        if step % stage.log_every == 0:
            record = {"step": step, "seconds": round(seconds, 1), "loss": sum(running) / len(running)}
            if step % stage.evaluate_every == 0:
                record |= objective.evaluate()
                model.train()
            with open(folder / "log.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps(record) + "\n")
            logger.info("%s", record)
            running.clear()
        if now - saved > stage.save_seconds:
            save_state(path, model, optimizer, {"step": step, "seconds": seconds}, average)
            saved = now
    if not peers.rank:
        save_state(path, model, optimizer, {"step": step, "seconds": seconds}, average)
    peers.leave()
