"""Joint Block files: what Stage A trained, with its config in the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ..checked import arguments, parse_json, placed, shown
from ..errors import InputError, in_one_line
from ..media.files import whole_file
from ..models.joint_block import JointBlocks
from .configs import no_more_parts_than
from .finite import check_finite
from .folders import stored_shapes


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
    """Read what `save_joint_blocks` wrote, strictly. Raises InputError that names the file.

    Nothing is made of the settings in the metadata before they are found to be those of the tensors beside them.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({in_one_line(error)})") from error
    if metadata.get("class") != "JointBlocks":
        raise InputError(f"{path}: not a Joint Block file; its metadata names {shown(metadata.get('class'))}")
    stored = dict(stored_shapes(path))
    with placed(f"{path}: its own config"):
        settings = arguments(JointBlocks, parse_json(metadata.get("config", "null")))
        with torch.device("meta"), no_more_parts_than(len(stored)):
            blocks = JointBlocks(**settings)
        needed = {name: list(tensor.shape) for name, tensor in blocks.state_dict().items()}
        for name in sorted(needed.keys() | stored.keys()):
            ours, theirs = needed.get(name, "no such tensor"), stored.get(name, "none")
            if ours != theirs:
                raise InputError(f"asks for {ours}, but the file has {theirs} for {shown(name)}")
    tensors = load_file(path)
    check_finite(path, tensors)
    blocks.load_state_dict(tensors, assign=True)
    nn.Module.to(blocks, dtype)  # diffusers' own `to` warns about layers that these do not have
    return blocks.eval()
