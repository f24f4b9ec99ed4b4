from __future__ import annotations

import abc
from dataclasses import dataclass
from fractions import Fraction

import torch

from . import io

__all__ = ["ComfyExtension", "Input", "InputImpl", "Types", "io"]


class ComfyExtension(abc.ABC):
    @abc.abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...


class Types:
    @dataclass
    class VideoComponents:
        images: torch.Tensor
        frame_rate: Fraction
        audio: dict | None = None


class Input:
    class Video(abc.ABC):
        @abc.abstractmethod
        def get_components(self) -> Types.VideoComponents: ...

        def get_duration(self) -> float:
            parts = self.get_components()
            return float(len(parts.images) / parts.frame_rate)


class InputImpl:
    class VideoFromFile(Input.Video):
        def __init__(self, file: str, *, start_time: float = 0, duration: float = 0) -> None:
            self._file, self._part = file, (start_time, duration)

        def get_stream_source(self) -> str:
            return self._file

        def get_active_trim_window(self) -> tuple[float, float]:
            return self._part

        def get_duration(self) -> float:
            return self._part[1]

        def get_components(self) -> Types.VideoComponents:
            raise AssertionError("a whole file is not taken into memory")

    class VideoFromComponents(Input.Video):
        def __init__(self, components: Types.VideoComponents) -> None:
            self._components = components

        def get_components(self) -> Types.VideoComponents:
            return self._components
