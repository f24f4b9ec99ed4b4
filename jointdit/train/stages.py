"""What a training run is: a small TOML file, checked in full before anything is loaded.

`stage_a.toml` and `stage_b.toml` beside this file hold every option with its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from ..checked import Between, WrongValue, checked
from ..checkpoints.components import IDENTITY
from ..datasets.splits import ALL, SPLITS
from ..errors import InputError, in_one_line, some
from ..toml_files import path_beside, read_toml, refuse_unknown, toml_value

PATHS = ("cache", "output", "joint")
STARTS = (IDENTITY, "random")  # instead of a Joint Block file
MODELS = ("model", "video_expert", "audio_expert")  # paths, or names of models that are built in or on the Hub
TEMPLATES = {"a": Path(__file__).with_name("stage_a.toml"), "b": Path(__file__).with_name("stage_b.toml")}


Many = Annotated[int, Between(1, 10**9)]
Some = Annotated[int, Between(0, 10**9)]
Share = Annotated[float, Between(0, 1)]
Rate = Annotated[float, Between(0, 1000)]  # also lengths and powers
Least = Annotated[float, Between(-math.inf)]


@dataclass(frozen=True)
class TrainingConfig:
    """The options of a run; `stage_a.toml` says what each means.

    Raises WrongValue for a value that cannot be.
    """

    stage: Literal["a", "b"]
    model: str
    video_expert: str
    audio_expert: str
    audio_heads: Literal["published", "authors"]
    expert_frames: Annotated[int, Between(0, 1000)]
    joint: str
    cache: Path
    split: str
    output: Path
    steps: Many
    batch: Annotated[int, Between(1, 100_000)]
    rate: Rate
    expert_rate: Rate
    adapter_rank: Annotated[int, Between(0, 10_000)]
    adapter_targets: str
    adapter_rate: Rate
    optimizer: Literal["adamw", "adamw8bit"]
    shard_optimizer: bool
    warmup: Some
    clip_norm: Annotated[float, Between(0, 1e9)]
    average: Share
    average_on_host: bool
    isolated: Share
    drop_text: Share
    drop_all: Share
    audio_weight: Annotated[float, Between(1, 1e9)]
    audio_substeps: Annotated[int, Between(0, 100)]
    given_video: Annotated[int, Between(0, 100)]
    audio_noise_power: Rate
    path_share: Share
    held_out: Many
    min_loudness: Least
    min_motion: Least
    min_sync: Least
    seed: Annotated[int, Between(0, 2**63 - 1)]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    memory: Literal["auto", "fixed"]
    micro_batch: Annotated[int, Between(1, 100_000)]
    gradient_checkpointing: bool
    query_chunk: Some
    video_pool: Annotated[int, Between(1, 1024)]
    log_every: Many
    save_every: Many
    validate_every: Many
    samples: Annotated[int, Between(0, 1000)]
    tensorboard: bool

    def __post_init__(self) -> None:
        """What the annotations cannot say."""

        def refuse(name: str, wanted: str) -> None:
            raise WrongValue(name, getattr(self, name), wanted)

        if self.split not in (*SPLITS, ALL):
            refuse("split", f"one of {', '.join((*SPLITS, ALL))}")
        if bool(self.video_expert) != bool(self.audio_expert):
            refuse("audio_expert" if self.video_expert else "video_expert", "given as well: both experts, or neither")
        if self.samples == 1:
            refuse("samples", "0, or at least 2: a score compares clips")
        if self.samples and self.held_out == 1:
            refuse("held_out", "at least 2 where clips are sampled from them (samples)")
        if self.adapter_rank and self.stage == "a":
            refuse("adapter_rank", "0 in stage a, where the experts stay as they are")
        for name in ("rate", "adapter_rate", "clip_norm", "audio_noise_power"):
            if not getattr(self, name) > 0:
                refuse(name, "above 0 and finite")
        for name in ("drop_text", "drop_all", "average"):
            if not getattr(self, name) < 1:
                refuse(name, "at least 0 and below 1")

    @property
    def warm_steps(self) -> int:
        """Steps of the warm-up: a short run spends no more than a tenth of itself on it."""
        return min(self.warmup, self.steps // 10)


def read_config(path: Path, changes: Mapping[str, str] | None = None) -> TrainingConfig:
    """A run from a TOML file; `changes` replace options, given as texts in TOML's own notation (or plain words).

    Paths in the file are relative to its folder. Raises InputError for options that are unknown, missing or wrong.
    """
    changes = changes or {}

    def source(name: str) -> str:
        """Who gave an option, before a message about it."""
        if name in changes:
            return f"--set {name}={in_one_line(changes[name], 60)}: "
        return "" if path in TEMPLATES.values() else f"{path}: "

    known = [field.name for field in fields(TrainingConfig)]
    values = read_toml(path)
    refuse_unknown(path, values, known)
    for name, text in changes.items():
        refuse_unknown(f"--set {in_one_line(f'{name}={text}', 60)}", [name], known)
    for name in (*PATHS, *MODELS):
        value = values.get(name)
        if isinstance(value, str) and value and not (name == "joint" and value in STARTS):
            values[name] = path_beside(path, value, may_be_name=name in MODELS)
    values |= {name: toml_value(text) for name, text in changes.items()}
    if missing := [name for name in known if name not in values]:
        raise InputError(f"{path}: {some(missing)} missing; stage_a.toml of jointdit.train shows every option")
    try:
        return checked(TrainingConfig, values)
    except WrongValue as error:
        raise InputError(f"{source(error.key.partition('[')[0])}{error}") from None
