"""Low-rank adapters of the experts (LoRA, 2106.09685) in files as diffusers writes and loads them.

A folder holds `video.safetensors` and `audio.safetensors`, or one of them. A file has two matrices for each layer,
`unet.LAYER.lora_A.weight` [r, in] and `unet.LAYER.lora_B.weight` [out, r]; the layer's weight becomes W + scale * B A.
The scale is alpha / r of the adapter's settings in the metadata, and 1 without them.

Files that others trained are read as well: with diffusers' names before PEFT (`LAYER.lora.down.weight`, and
`processor.to_q_lora.down.weight`), with kohya's (`lora_unet_LAYER.lora_down.weight`, underscores for dots, and an
alpha for each layer), with the names of layers in the original code of Stable Video Diffusion, as ComfyUI has them, and
for convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..checked import Count, checked, fit, parse_json, placed
from ..errors import InputError, some
from ..media.files import whole_file
from .components import ADAPTER_FILES
from .finite import check_finite
from .single_file_names import unet_key

PREFIX = "unet."  # as diffusers' pipelines write it; files of a UNet alone have none
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
METADATA = "lora_adapter_metadata"  # diffusers' key of the settings
BEFORE = ("unet.", "base_model.model.", "lora_unet_", "model.diffusion_model.", "diffusion_model.")
ENDS = {f"{end}.weight": "down" for end in (".lora_A", ".lora_A.default", ".lora.down", "_lora.down", ".lora_down")}
ENDS |= {f"{end}.weight": "up" for end in (".lora_B", ".lora_B.default", ".lora.up", "_lora.up", ".lora_up")}
ENDS[".alpha"] = "alpha"
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
        with whole_file(folder / ADAPTER_FILES[component]) as partial:
            save_file(tensors, partial, metadata={"format": "pt"})


def adapter_files(folder: Path) -> dict[str, Path]:
    """The files of a folder by component. Raises InputError if there are none."""
    found = {component: folder / name for component, name in ADAPTER_FILES.items() if (folder / name).is_file()}
    if not found:
        raise InputError(f"{folder}: no adapters there; give a folder with {' or '.join(ADAPTER_FILES.values())}")
    return found


@dataclass
class _Adapter:
    """What a file has for a layer."""

    down: Tensor | None = None  # A [r, in], of a convolution [r, in, h, w]
    up: Tensor | None = None  # B [out, r], or [out, r, 1, 1]
    alpha: Tensor | None = None


@torch.no_grad()
def fuse_adapter(unet: nn.Module, path: Path, strength: float = 1.0) -> None:
    """Adds an adapter to the weights of a UNet, in float32 and rounded once. All layers are checked before one changes.

    strength: 1 as it was trained.
    Raises InputError if the file is damaged, is no adapter, or is one of another model.
    """
    adapters, scale = _read(path)
    layers = {name: layer for name, layer in unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    spellings = _spellings(unet, layers)
    fused = []
    for name, adapter in adapters.items():
        down, up = adapter.down, adapter.up
        if down is None or up is None:
            missing = name + (DOWN if down is None else UP)
            raise InputError(f"{path}: not an adapter that can be read: {missing!r} is missing beside {name!r}")
        if name not in spellings:
            raise InputError(f"{path}: made for another model, which has a layer {name!r}; this one has not")
        layer = layers[spellings[name]]
        ours, theirs = tuple(layer.weight.shape), (*up.shape[:1], *down.shape[1:])
        if ours != theirs or up.shape[1:] != (down.shape[0], *[1] * (down.ndim - 2)):
            shapes = f"B {list(up.shape)} and A {list(down.shape)}"
            raise InputError(
                f"{path}: made for another model: {name} has {shapes} there and a weight {list(ours)} here"
            )
        own = scale if adapter.alpha is None else float(adapter.alpha) / down.shape[0]
        fused.append((layer, down, up, own * strength))
    for layer, down, up, factor in fused:
        weight = layer.weight
        down, up = (each.to(weight.device, torch.float32).flatten(1) for each in (down, up))
        weight.copy_(weight.float() + (factor * (up @ down)).view_as(weight))


def _spellings(unet: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """The names of layers by all that files call them."""
    found = {name: name for name in layers}
    for name in layers:
        if name.endswith(".to_out.0"):  # attention processors have no dropout beside it
            found[name.removesuffix(".0")] = name
        if isinstance(unet, UNetSpatioTemporalConditionModel):
            with suppress(InputError):
                found[unet_key(unet, f"{name}.weight".split(".")).removesuffix(".weight")] = name
    return {spelling.replace(".", "_"): name for spelling, name in found.items()} | found


def _read(path: Path) -> tuple[dict[str, _Adapter], float]:
    """What a file has for each layer, by its name there without what stands before, and the scale of its settings."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(METADATA, "{}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({error})") from error
    with placed(f"{path}: its settings"):
        settings = fit(dict[str, Any], parse_json(metadata), METADATA)
        settings = {key.removeprefix(PREFIX): value for key, value in settings.items()}
        scale = checked(_Scale, settings, only_known=False)
    check_finite(path, tensors)
    adapters: dict[str, _Adapter] = {}
    unknown = []
    for key, tensor in tensors.items():
        before = next((each for each in BEFORE if key.startswith(each)), "")
        end = next((each for each in ENDS if key.endswith(each)), "")
        kind, layer = ENDS.get(end), key.removeprefix(before).removesuffix(end).replace(".processor.", ".")
        if kind is None or not (tensor.numel() == 1 if kind == "alpha" else tensor.ndim in (2, 4)):
            unknown.append(key)
        else:
            setattr(adapters.setdefault(layer, _Adapter()), kind, tensor)
    if unknown:
        raise InputError(f"{path}: not a low-rank adapter (LoRA) that can be read, which has no {some(unknown)}")
    if not tensors:
        raise InputError(f"{path}: no adapter in it; train or fetch it again")
    if unread := [name for name in UNREAD if settings.get(name)]:
        raise InputError(f"{path}: an adapter with {some(unread)}, which is not supported; fuse it with diffusers")
    return adapters, scale.lora_alpha / scale.r
