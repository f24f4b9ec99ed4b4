"""Joint Block files: what Stage A trained, with its config in the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ..errors import InputError
from ..media.files import whole_file
from ..models.joint_block import JointBlocks
from .folders import BROKEN


def joint_block_settings(blocks: JointBlocks) -> dict[str, Any]:
    """What Joint Blocks are made with, as JSON has it."""
    settings = {name: value for name, value in blocks.config.items() if not name.startswith("_")}
    return json.loads(json.dumps(settings))


def save_joint_blocks(blocks: JointBlocks, path: Path) -> None:
    """Write a Joint Block file, which appears whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in blocks.state_dict().items()}
    settings = json.dumps(joint_block_settings(blocks))
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata={"class": "JointBlocks", "config": settings})


def load_joint_blocks(path: Path, dtype: torch.dtype = torch.float32) -> JointBlocks:
    """Read what `save_joint_blocks` wrote, strictly. Raises InputError that names the file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({error})") from error
    if metadata.get("class") != "JointBlocks":
        raise InputError(f"{path}: not a Joint Block file; its metadata names {metadata.get('class')!r}")
    try:
        blocks = JointBlocks(**json.loads(metadata["config"]))
        blocks.load_state_dict(load_file(path))
    except BROKEN as error:
        raise InputError(f"{path}: does not fit its own config ({' '.join(str(error).split())})") from error
    nn.Module.to(blocks, dtype)  # diffusers' own `to` warns about layers that these do not have
    return blocks.eval()
