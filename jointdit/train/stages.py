"""What a training run is: a small TOML file, checked in full before anything is loaded.

`stage_a.toml` and `stage_b.toml` beside this file hold every option with its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

from ..checkpoints.components import IDENTITY
from ..datasets.splits import SPLITS
from ..errors import InputError, some
from ..toml_files import path_beside, read_toml, refuse_unknown, toml_value

PATHS = ("cache", "output", "joint")
STARTS = (IDENTITY, "random")  # instead of a Joint Block file
MODELS = ("model", "video_expert", "audio_expert")  # paths, or names of models that are built in or on the Hub
TEMPLATES = {"a": Path(__file__).with_name("stage_a.toml"), "b": Path(__file__).with_name("stage_b.toml")}


class WrongOption(InputError):
    """An option with a value that it cannot have."""

    def __init__(self, name: str, value: object, wanted: str) -> None:
        super().__init__(f"{name} is {value!r}, but must be {wanted}")
        self.name = name


@dataclass(frozen=True)
class TrainingConfig:
    """The options of a run; `stage_a.toml` says what each means.

    Raises WrongOption for a value that cannot be.
    """

    stage: str
    model: str
    video_expert: str
    audio_expert: str
    audio_heads: str
    expert_frames: int
    joint: str
    cache: Path
    split: str
    output: Path
    steps: int
    batch: int
    rate: float
    expert_rate: float
    adapter_rank: int
    adapter_targets: str
    adapter_rate: float
    optimizer: str
    shard_optimizer: bool
    warmup: int
    clip_norm: float
    average: float
    average_on_host: bool
    isolated: float
    drop_text: float
    drop_all: float
    audio_weight: float
    audio_substeps: int
    given_video: int
    audio_noise_power: float
    path_share: float
    held_out: int
    min_loudness: float
    min_motion: float
    min_sync: float
    seed: int
    precision: str
    memory: str
    micro_batch: int
    gradient_checkpointing: bool
    query_chunk: int
    video_pool: int
    log_every: int
    save_every: int
    validate_every: int
    samples: int
    tensorboard: bool

    def __post_init__(self) -> None:
        def refuse(name: str, wanted: str) -> None:
            raise WrongOption(name, getattr(self, name), wanted)

        for name, allowed in (
            ("stage", ("a", "b")),
            ("precision", ("auto", "float32", "bfloat16", "float16")),
            ("audio_heads", ("published", "authors")),
            ("memory", ("auto", "fixed")),
            ("optimizer", ("adamw", "adamw8bit")),
            ("split", SPLITS),
        ):
            if getattr(self, name) not in allowed:
                refuse(name, f"one of {', '.join(allowed)}")
        if bool(self.video_expert) != bool(self.audio_expert):
            refuse("audio_expert" if self.video_expert else "video_expert", "given as well: both experts, or neither")
        counts = ("steps", "batch", "held_out", "micro_batch", "video_pool")
        for name in (*counts, "log_every", "save_every", "validate_every"):
            if getattr(self, name) < 1:
                refuse(name, "at least 1")
        counts = ("warmup", "seed", "samples", "audio_substeps", "given_video", "adapter_rank", "query_chunk")
        for name in (*counts, "expert_frames"):
            if getattr(self, name) < 0:
                refuse(name, "at least 0")
        if self.samples == 1:
            refuse("samples", "0, or at least 2: a score compares clips")
        if self.samples and self.held_out == 1:
            refuse("held_out", "at least 2 where clips are sampled from them (samples)")
        if not 1 <= self.audio_weight < math.inf:
            refuse("audio_weight", "at least 1, which weighs nothing, and finite")
        if not 0 <= self.path_share <= 1:
            refuse("path_share", "from 0 to 1")
        if self.adapter_rank and self.stage == "a":
            refuse("adapter_rank", "0 in stage a, where the experts stay as they are")
        for name in ("rate", "adapter_rate", "clip_norm", "audio_noise_power"):
            if not 0 < getattr(self, name) < math.inf:
                refuse(name, "above 0 and finite")
        for name in ("min_loudness", "min_motion", "min_sync"):
            if not getattr(self, name) < math.inf:  # NaN is not
                refuse(name, "a number, or -inf for no limit")
        if not 0 <= self.expert_rate < math.inf:
            refuse("expert_rate", "at least 0 and finite")
        if not 0 <= self.isolated <= 1:
            refuse("isolated", "from 0 to 1")
        for name in ("drop_text", "drop_all", "average"):
            if not 0 <= getattr(self, name) < 1:
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
            return f"--set {name}={changes[name]}: "
        return "" if path in TEMPLATES.values() else f"{path}: "

    types = get_type_hints(TrainingConfig)
    known = [field.name for field in fields(TrainingConfig)]
    values = read_toml(path)
    refuse_unknown(path, values, known)
    for name, text in changes.items():
        refuse_unknown(f"--set {name}={text}", [name], known)
    for name in (*PATHS, *MODELS):
        value = values.get(name)
        if isinstance(value, str) and value and not (name == "joint" and value in STARTS):
            values[name] = path_beside(path, value, may_be_name=name in MODELS)
    values |= {name: toml_value(text) for name, text in changes.items()}
    if missing := [name for name in known if name not in values]:
        raise InputError(f"{path}: {some(missing)} missing; stage_a.toml of jointdit.train shows every option")
    for name, value in values.items():
        kind = types[name]
        if kind is Path and isinstance(value, str | Path):
            values[name] = Path(value)
        elif kind is float and type(value) is int:
            values[name] = float(value)
        elif type(value) is not kind:
            raise InputError(source(name) + str(WrongOption(name, value, f"of type {kind.__name__}")))
    try:
        return TrainingConfig(**values)
    except WrongOption as error:
        raise InputError(f"{source(error.name)}{error}") from None
