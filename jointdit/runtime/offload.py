"""Weights that rest on the host and visit a device while they are used.

accelerate's offload, which diffusers' pipelines use, hangs on a model's own `forward`. The joint model calls the blocks
of its UNets itself, so here the pipeline says what it needs: `with residence.using("video_unet"): ...`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn


class Guest:
    """Tensors, parameters or buffers, that come to a device and go again.

    The host keeps its copy, so that going moves nothing: weights must not change while they are away.
    """

    def __init__(self, tensors: Iterable[Tensor], device: torch.device) -> None:
        self.tensors, self.device = list(tensors), device
        self.resting = [tensor.data.to("cpu") for tensor in self.tensors]
        self.stream = None
        if device.type == "cuda":
            # From pinned memory a copy runs beside what is being computed.
            self.resting = [tensor.pin_memory() for tensor in self.resting]
            self.stream = torch.cuda.Stream(device)
        self._coming: list[Tensor] | None = None
        self.go()

    def call(self) -> None:
        """Starts the copies, so that `come` need not wait long."""
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            self._coming = [tensor.to(self.device, non_blocking=True, copy=True) for tensor in self.resting]

    def come(self) -> None:
        """The tensors are on the device."""
        if self._coming is None:
            self.call()
        if self.stream:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
        for tensor, here in zip(self.tensors, self._coming, strict=True):
            tensor.data = here
        self._coming = None

    def go(self) -> None:
        """The tensors are on the host, and their memory on the device is free."""
        if self.stream:
            # Otherwise the host would run ahead and call all guests before the first one's memory is free.
            torch.cuda.current_stream(self.device).synchronize()
        for tensor, rest in zip(self.tensors, self.resting, strict=True):
            tensor.data = rest


class Procession:
    """Blocks that visit one at a time, each for its own forward, while the next one is on its way."""

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device) -> None:
        guests = [Guest(_tensors(block), device) for block in blocks]
        self.hooks = []
        for index, (block, guest) in enumerate(zip(blocks, guests, strict=True)):
            following = guests[index + 1 : index + 2]

            def come(*_, guest: Guest = guest, following: Sequence[Guest] = following) -> None:
                guest.come()
                for each in following:
                    each.call()

            def go(*_, guest: Guest = guest) -> None:
                guest.go()

            self.hooks += [
                block.register_forward_pre_hook(come),
                block.register_forward_hook(go, always_call=True),  # when memory ran out, too
            ]

    def end(self) -> None:
        """The blocks stay on the host."""
        for hook in self.hooks:
            hook.remove()


class Residence:
    """Components of a pipeline that rest on the host. Those named in `by_block` come a block at a time."""

    def __init__(self, components: Mapping[str, nn.Module], device: torch.device, by_block: Iterable[str] = ()) -> None:
        self.device = device
        self.guests, self.processions, self._here = {}, [], set()
        for name, component in components.items():
            blocks = unet_blocks(component) if name in by_block else []
            self.processions.append(Procession(blocks, device))
            apart = {id(tensor) for block in blocks for tensor in _tensors(block)}
            self.guests[name] = Guest((each for each in _tensors(component) if id(each) not in apart), device)

    @contextmanager
    def using(self, *names: str) -> Iterator[None]:
        """These components are on the device; those that the pipeline lacks are left out."""
        coming = [name for name in names if name in self.guests and name not in self._here]
        try:
            for name in coming:
                self._here.add(name)
                self.guests[name].come()
            yield
        finally:
            for name in coming:
                self._here.discard(name)
                self.guests[name].go()

    def end(self) -> None:
        """All components stay on the host."""
        for procession in self.processions:
            procession.end()


def unet_blocks(unet: nn.Module) -> list[nn.Module]:
    """The blocks of either UNet in the order of their use."""
    return [*unet.down_blocks, unet.mid_block, *unet.up_blocks]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
