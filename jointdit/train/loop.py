"""One loop for the small recipes: a cosine learning rate, a log of JSON lines, and exact resume."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .checkpoint import load_state, save_state

logger = logging.getLogger(__name__)
AVERAGE_DECAY = 0.997


class Task(Protocol):
    """What is trained. `loss` draws all its randomness from the generator."""

    model: nn.Module

    def loss(self, generator: torch.Generator, progress: float) -> Tensor: ...

    def evaluate(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class Budget:
    """Until `steps` are done or `minutes` of training have passed, whichever is given. Only `steps` repeats exactly."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.minutes) if value is not None]
        if len(given) != 1 or not 0 < given[0] < math.inf:
            raise ValueError(f"the budget is steps={self.steps}, minutes={self.minutes}; give one of them, above zero")

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 at the end."""
        return step / self.steps if self.steps is not None else seconds / (60 * self.minutes)


def learning_rate(peak: float, step: int, progress: float, warmup: int = 200) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    return peak * min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int, decay: float = AVERAGE_DECAY) -> None:
    """One step of the exponential moving average; early steps count more, so that it forgets the random start."""
    weight = 1 - min(decay, step / (step + 10))
    targets, sources = list(average.state_dict().values()), list(model.state_dict().values())
    for target, source in zip(targets, sources, strict=True):
        target.lerp_(source, weight) if target.is_floating_point() else target.copy_(source)


def step_generator(seed: int, step: int) -> torch.Generator:
    """A generator of its own for each step, so that no random state has to be stored to resume."""
    return torch.Generator().manual_seed((seed << 32) + step)


def parameter_groups(model: nn.Module, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters by the factor of their learning rate."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        factor = next((factors[prefix] for prefix in factors if name.startswith(f"{prefix}.")), 1.0)
        groups.setdefault(factor, []).append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def fit(
    task: Task,
    folder: Path,
    budget: Budget,
    peak: float,
    seed: int,
    log_every: int = 50,
    save_seconds: float = 120.0,
    evaluate_every: int = 500,
    average: nn.Module | None = None,
    factors: Mapping[str, float] | None = None,
    bfloat16: bool = False,
) -> None:
    """Train `task.model` in place; go on from `folder/state.safetensors` if it is there. Logs go to `folder/log.jsonl`.

    factors: by the first part of parameters' names, what their learning rate is multiplied by.
    average: a copy of `task.model` that follows it as an exponential moving average (`AVERAGE_DECAY`).
    bfloat16: compute the losses under autocast, which is faster where the processor has such instructions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "state.safetensors"
    optimizer = torch.optim.AdamW(parameter_groups(task.model, factors or {}), betas=(0.9, 0.98), weight_decay=0.0)
    step, seconds = 0, 0.0
    if path.exists():
        counters = load_state(path, task.model, optimizer, average)
        step, seconds = counters["step"], counters["seconds"]
        logger.info("resumed at step %d, after %.0f s", step, seconds)
    task.model.train()
    clock = saved = time.monotonic()
    running: list[float] = []
    while (progress := budget.progress(step, seconds)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(peak, step, progress)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = task.loss(step_generator(seed, step), progress)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if average is not None:
            follow(average, task.model, step)
        running.append(loss.item())
        now = time.monotonic()
        seconds, clock = seconds + now - clock, now
        if step % log_every == 0:
            record = {"step": step, "seconds": round(seconds, 1), "loss": sum(running) / len(running)}
            if step % evaluate_every == 0:
                record |= task.evaluate()
                task.model.train()
            with open(folder / "log.jsonl", "a") as log:
                log.write(json.dumps(record) + "\n")
            logger.info("%s", record)
            running.clear()
        if now - saved > save_seconds:
            save_state(path, task.model, optimizer, {"step": step, "seconds": seconds}, average)
            saved = now
    save_state(path, task.model, optimizer, {"step": step, "seconds": seconds}, average)
