"""The folder of a run: who writes in it, what run its state belongs to, and its log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import InputError
from ..media import Clip
from ..media.files import whole_file
from ..media.partials import remove_leftovers
from .cache import LatentCache
from .checkpoint import read_counters
from .names import ADAPTERS, BLOCKS, LOG, MODEL, STATE
from .stages import MODELS, TrainingConfig

# Options that change no number of a run, so that they may be others when it is resumed.
FREE = {
    *("output", "memory", "micro_batch", "gradient_checkpointing", "query_chunk", "average_on_host", "shard_optimizer"),
    *("split", "log_every", "save_every", "validate_every", "samples", "tensorboard"),
}


@contextmanager
def locked(folder: Path, name: str = "lock", work: str = "training") -> Iterator[None]:
    """Keeps other runs out of a folder, until the block or its process ends. What killed runs left in work is removed.

    name: of the file that is locked.    work: what runs, for the message.
    Raises InputError if another run is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / name, timeout=0):
            remove_leftovers(folder)  # here too: a run that finds all done writes nothing
            yield
    except Timeout as error:
        raise InputError(
            f"{folder}: another {work} writes there; wait for its end, or choose another folder"
        ) from error


def result_path(config: TrainingConfig) -> Path:
    """Where the result of a run goes: a Joint Block file (a), a model folder (b), or adapters beside such a file."""
    if config.adapter_rank:
        return config.output / ADAPTERS
    return config.output / (BLOCKS if config.stage == "a" else MODEL)


def describe(config: TrainingConfig, cache: LatentCache) -> dict[str, Any]:
    """What decides the numbers of a run, as JSON has it. Of the cache it is the contents, which may be moved."""
    options = {name: value for name, value in vars(config).items() if name not in FREE}
    for name in (*MODELS, "joint"):
        if options[name] and Path(options[name]).exists():
            options[name] = str(Path(options[name]).absolute())
    contents = json.dumps([asdict(cache.encoding), cache.names, cache.captions])
    options["cache"] = f"{len(cache)} clips {hashlib.sha256(contents.encode()).hexdigest()[:8]}"
    return options


def step_to_resume(folder: Path, run: Mapping[str, Any]) -> int | None:
    """The step of the state in a folder, or None without one. run: of `describe`.

    Raises InputError with each option that was another one when the state was written. `steps` may change, but not to
    fewer than are done.
    """
    path = folder / STATE
    if not path.exists():
        return None
    counters = read_counters(path)
    if "run" not in counters:
        raise InputError(f"{folder}: holds a run of another version, which cannot be resumed; choose another output")
    old, step = counters["run"], counters["step"]
    free = {"steps"} if step <= run["steps"] else set()
    if changed := [name for name in {**run, **old} if name not in free and old.get(name) != run.get(name)]:
        shown = ", ".join(f"{name} {old.get(name)!r} (now {run.get(name)!r})" for name in changed)
        raise InputError(
            f"{folder}: holds a run with {shown}, at step {step}; to resume it, give it its own options back, and for "
            "a new run choose another output"
        )
    return step


class RunLog:
    """log.jsonl in the folder of a run, and the same for TensorBoard. What was logged after `step` is removed."""

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        self._path = folder / LOG
        self._board = None
        if tensorboard:
            from .board import Board

            self._board = Board(folder / "tensorboard", step)
        if self._path.exists():
            kept = [line for line in self._path.read_text(encoding="utf-8").splitlines() if _is_until(line, step)]
            with whole_file(self._path) as partial:
                partial.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        """A line of numbers and groups of numbers, the step among them."""
        with open(self._path, "a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        if self._board is not None:
            groups = {name: value for name, value in record.items() if isinstance(value, Mapping)}
            groups["train"] = {name: value for name, value in record.items() if name not in {"step", *groups}}
            for name, values in groups.items():
                self._board.numbers(record["step"], name, values)

    def clip(self, step: int, name: str, clip: Clip) -> None:
        """A clip that was sampled at this step."""
        if self._board is not None:
            self._board.clip(step, name, clip)


def _is_until(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except ValueError:  # a kill left a part of the line
        return False
