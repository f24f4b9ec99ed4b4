"""Processes that share the steps of one run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Peers:
    """Each process draws samples of its own, and all move by the mean of their gradients. One process is a group too.

    rank: number of this process; the first, 0, writes the log and the state.    count: of processes.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Peers:
        """The processes that `torchrun` started, over gloo, which works without a GPU; or this one alone."""
        if not distributed.is_torchelastic_launched():
            return cls()
        distributed.init_process_group("gloo")
        return cls(distributed.get_rank(), distributed.get_world_size())

    def leave(self) -> None:
        """Waits for the others, so that the first has written what it keeps."""
        if self.count > 1:
            distributed.barrier()
        if distributed.is_initialized():
            distributed.destroy_process_group()

    def agree(self, value: float) -> float:
        """The first process's value, to the bit."""
        if self.count == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64)
        distributed.broadcast(tensor, 0)
        return tensor.item()

    def average_gradients(self, model: nn.Module) -> None:
        """Mean over processes of every gradient; a process that has none for a parameter counts as zero."""
        if self.count == 1:
            return
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in learned]
        flat = torch.cat([each.flatten() for each in gradients]) / self.count
        distributed.all_reduce(flat)
        for parameter, part in zip(learned, flat.split([each.numel() for each in learned]), strict=True):
            parameter.grad = part.view_as(parameter)
