"""Weights that rest on the host and are on a device only while they are used.

accelerate's offload, which diffusers' pipelines use, hangs on a model's own `forward`. The joint model calls the blocks
of its UNets itself, so here the pipeline says what it needs: `with offloader.using("video_unet"): ...`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn


class OffloadedTensors:
    """Tensors, parameters or buffers, that are loaded to a device and unloaded again.

    The host keeps its copy, so that unloading copies nothing: weights must not change while they are on the device.
    """

    def __init__(self, tensors: Iterable[Tensor], device: torch.device) -> None:
        self.tensors, self.device = list(tensors), device
        self.on_host = [tensor.data.to("cpu") for tensor in self.tensors]
        self.stream = None
        if device.type == "cuda":
            # From pinned memory a copy runs beside what is being computed.
            self.on_host = [tensor.pin_memory() for tensor in self.on_host]
            self.stream = torch.cuda.Stream(device)
        self._copies: list[Tensor] | None = None
        self.unload()

    def prefetch(self) -> None:
        """Starts the copies, so that `load` need not wait long."""
        self._copies = self._start_copies()

    def load(self) -> None:
        """The tensors are on the device."""
        copies, self._copies = self._copies or self._start_copies(), None
        if self.stream:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
        for tensor, copy in zip(self.tensors, copies, strict=True):
            tensor.data = copy

    def unload(self) -> None:
        """The tensors are on the host, and their memory on the device is free."""
        if self.stream:
            # Otherwise the host would run ahead and prefetch all blocks before the first one's memory is free.
            torch.cuda.current_stream(self.device).synchronize()
        for tensor, resting in zip(self.tensors, self.on_host, strict=True):
            tensor.data = resting

    def _start_copies(self) -> list[Tensor]:
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            return [tensor.to(self.device, non_blocking=True, copy=True) for tensor in self.on_host]


class BlockStreamer:
    """Blocks that are on the device one at a time, each for its own forward, while the next one is prefetched."""

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device) -> None:
        offloaded = [OffloadedTensors(_tensors(block), device) for block in blocks]
        self.hooks = []
        for index, (block, tensors) in enumerate(zip(blocks, offloaded, strict=True)):
            following = offloaded[index + 1 : index + 2]

            def load(
                *_, tensors: OffloadedTensors = tensors, following: Sequence[OffloadedTensors] = following
            ) -> None:
                tensors.load()
                for each in following:
                    each.prefetch()

            def unload(*_, tensors: OffloadedTensors = tensors) -> None:
                tensors.unload()

            self.hooks += [
                block.register_forward_pre_hook(load),
                block.register_forward_hook(unload, always_call=True),  # when memory ran out, too
            ]

    def end(self) -> None:
        """The blocks stay on the host."""
        for hook in self.hooks:
            hook.remove()


class Offloader:
    """Keeps a pipeline's components on the host, and on the device only while they are used.

    by_block: names of UNets whose blocks are loaded one at a time.
    """

    def __init__(self, components: Mapping[str, nn.Module], device: torch.device, by_block: Iterable[str] = ()) -> None:
        self.device = device
        self.streamers: list[BlockStreamer] = []
        self._offloaded: dict[str, OffloadedTensors] = {}
        self._in_use: set[str] = set()
        for name, component in components.items():
            blocks = unet_blocks(component) if name in by_block else []
            self.streamers.append(BlockStreamer(blocks, device))
            streamed = {id(tensor) for block in blocks for tensor in _tensors(block)}
            rest = (each for each in _tensors(component) if id(each) not in streamed)
            self._offloaded[name] = OffloadedTensors(rest, device)

    @contextmanager
    def using(self, *names: str) -> Iterator[None]:
        """These components are on the device; those that the pipeline lacks are left out."""
        loaded = [name for name in names if name in self._offloaded and name not in self._in_use]
        try:
            for name in loaded:
                self._in_use.add(name)
                self._offloaded[name].load()
            yield
        finally:
            for name in loaded:
                self._in_use.discard(name)
                self._offloaded[name].unload()

    def end(self) -> None:
        """All components stay on the host."""
        for streamer in self.streamers:
            streamer.end()


def unet_blocks(unet: nn.Module) -> list[nn.Module]:
    """The blocks of either UNet in the order of their use."""
    down, middle, up = (unet.get_submodule(name) for name in ("down_blocks", "mid_block", "up_blocks"))
    return [*down.children(), middle, *up.children()]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
