"""Low-rank adapters of the experts (LoRA, 2106.09685) in files as diffusers writes and loads them.

A folder holds `video.safetensors` and `audio.safetensors`, or one of them. A file has two matrices for each layer,
`unet.LAYER.lora_A.weight` [r, in] and `unet.LAYER.lora_B.weight` [out, r]; the layer's weight becomes W + scale * B A.
The scale is alpha / r of the adapter's settings in the metadata, and 1 without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..checked import Count, checked, fit, parse_json, placed
from ..errors import InputError, some
from ..media.files import whole_file
from .finite import check_finite

FILES = {"video_unet": "video.safetensors", "audio_unet": "audio.safetensors"}  # by component
PREFIX = "unet."  # as diffusers' pipelines write it; files of a UNet alone have none
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
METADATA = "lora_adapter_metadata"  # diffusers' key of the settings
# Settings of PEFT under which the weight is not W + alpha / r * B A.
UNREAD = ("use_dora", "use_rslora", "lora_bias", "rank_pattern", "alpha_pattern", "fan_in_fan_out")

Matrices = Mapping[str, tuple[Tensor, Tensor]]  # by layer: A [r, in] and B [out, r]


@dataclass(frozen=True)
class _Scale:
    """PEFT's settings of an adapter's strength."""

    r: Count = 1
    lora_alpha: float = 1.0


def save_adapters(folder: Path, adapters: Mapping[str, Matrices]) -> None:
    """Writes a folder of adapters, each file whole or not at all. adapters: by component, of scale 1."""
    folder.mkdir(parents=True, exist_ok=True)
    for component, matrices in adapters.items():
        tensors = {}
        for layer, (down, up) in matrices.items():
            tensors |= {f"{PREFIX}{layer}{DOWN}": down.contiguous(), f"{PREFIX}{layer}{UP}": up.contiguous()}
        with whole_file(folder / FILES[component]) as partial:
            save_file(tensors, partial, metadata={"format": "pt"})


def adapter_files(folder: Path) -> dict[str, Path]:
    """The files of a folder by component. Raises InputError if there are none."""
    found = {component: folder / name for component, name in FILES.items() if (folder / name).is_file()}
    if not found:
        raise InputError(f"{folder}: no adapters there; give a folder with {' or '.join(FILES.values())}")
    return found


@torch.no_grad()
def fuse_adapter(unet: nn.Module, path: Path) -> None:
    """Adds an adapter to the weights of a UNet, in float32 and rounded once. All layers are checked before one changes.

    Raises InputError if the file is damaged, is no adapter, or is one of another model.
    """
    tensors, scale = _read(path)
    layers = {name: layer for name, layer in unet.named_modules() if isinstance(layer, nn.Linear)}
    fused = []
    for name in dict.fromkeys(key.removesuffix(DOWN).removesuffix(UP) for key in tensors):
        if unknown := [key for key in (name + DOWN, name + UP) if key not in tensors]:
            raise InputError(f"{path}: not an adapter that can be read: {unknown[0]!r} is missing beside {name!r}")
        if name not in layers:
            raise InputError(f"{path}: made for another model, which has a linear layer {name!r}; this one has not")
        layer, down, up = layers[name], tensors[name + DOWN], tensors[name + UP]
        ours, theirs = tuple(layer.weight.shape), (*up.shape[:1], *down.shape[1:])
        if down.ndim != 2 or up.ndim != 2 or ours != theirs or up.shape[1] != down.shape[0]:
            shapes = f"B {list(up.shape)} and A {list(down.shape)}"
            raise InputError(
                f"{path}: made for another model: {name} has {shapes} there and a weight {list(ours)} here"
            )
        fused.append((layer, down, up))
    for layer, down, up in fused:
        weight = layer.weight
        delta = scale * (up.to(weight.device, torch.float32) @ down.to(weight.device, torch.float32))
        weight.copy_(weight.float() + delta)


def _read(path: Path) -> tuple[dict[str, Tensor], float]:
    """The matrices of a file without the prefix, and their scale."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(METADATA, "{}")
            tensors = {key.removeprefix(PREFIX): file.get_tensor(key) for key in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({error})") from error
    with placed(f"{path}: its settings"):
        settings = fit(dict[str, Any], parse_json(metadata), METADATA)
        settings = {key.removeprefix(PREFIX): value for key, value in settings.items()}
        scale = checked(_Scale, settings, only_known=False)
    if other := [key for key in tensors if not key.endswith((DOWN, UP))]:
        raise InputError(f"{path}: not an adapter in diffusers' format, which has no {some(other)}")
    check_finite(path, tensors)
    if not tensors:
        raise InputError(f"{path}: no adapter in it; train or fetch it again")
    if unread := [name for name in UNREAD if settings.get(name)]:
        raise InputError(f"{path}: an adapter with {some(unread)}, which is not supported; fuse it with diffusers")
    return tensors, scale.lora_alpha / scale.r
