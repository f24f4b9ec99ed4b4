"""Where Joint Blocks start before any training."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from .joint_block import JointBlocks


def start_joint_blocks(blocks: JointBlocks, seed: int = 0, gate: float = 0.0) -> None:
    """Sets all weights to those of new Joint Blocks, whatever they were.

    seed: of the random ones.
    gate: where the gates start. At 0 the blocks are the identity; above, everything in them gets a gradient from the
    first step, and a pretrained expert is disturbed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = cast(JointBlocks, JointBlocks.from_config(dict(blocks.config)))
    blocks.load_state_dict(fresh.state_dict())
    open_at_own_time(blocks, gate)


@torch.no_grad()
def open_at_own_time(blocks: JointBlocks, gate: float) -> None:
    """Starts the gates at `gate`, and a part of queries and keys constant: the same for both modalities, in the
    channels that turn with time, so that tokens of the same moment attend to each other from the first step."""
    for block in blocks.blocks:
        for branch in (block.video, block.audio):
            nn.init.constant_(branch.modulation.bias[-branch.channels :], gate)
            for layer in (branch.to_q, branch.to_k):
                heads = layer.bias.view(-1, branch.head_dim)
                heads[:, : branch.head_dim // 2] = 1.0
                heads[:, branch.head_dim // 2 :] = 0.0


def are_closed(blocks: JointBlocks) -> bool:
    """Whether no gate is open, as before any training: then the modalities do not see each other."""
    branches = [branch for block in blocks.blocks for branch in (block.video, block.audio)]
    gates = [each[-branch.channels :] for branch in branches for each in branch.modulation.parameters()]
    return not any(bool(gate.any()) for gate in gates)
