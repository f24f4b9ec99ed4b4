"""A run as TensorBoard shows it. Needs the package tensorboard of the extra `train`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch

from ..errors import InputError
from ..evaluate import draw_sync
from ..media import Clip

if find_spec("tensorboard") is None:
    raise InputError(
        "tensorboard = true (jointdit[train]) lacks the package; set tensorboard = false, or get it with: "
        f'"{sys.executable}" -m pip install tensorboard'
    )

from torch.utils.tensorboard import SummaryWriter  # noqa: E402


class Board:
    """Numbers and clips of a run, for `tensorboard --logdir FOLDER`. What a killed run wrote after `step` is hidden."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def numbers(self, step: int, group: str, values: Mapping[str, float]) -> None:
        """A curve for each name, under the group."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()

    def clip(self, step: int, name: str, clip: Clip) -> None:
        """The sync plot of a clip, with its frames, and its sound."""
        sound = torch.from_numpy(clip.audio.mean(0, keepdims=True))
        self._writer.add_image(f"{name}/plot", draw_sync(clip, name), step, dataformats="HWC")
        self._writer.add_audio(f"{name}/sound", sound, step, clip.sample_rate)
        self._writer.flush()
