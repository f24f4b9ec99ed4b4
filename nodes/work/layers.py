"""Layers whose weights come to the device as they are used: with them ComfyUI loads and unloads a part of a model."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import comfy.ops
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...jointdit.runtime.float8 import Scaled


class CastAtUse(comfy.ops.CastWeightBiasOp, nn.Module):
    """Put before the class of a layer: its forward with a weight and a bias that rest elsewhere, or that ComfyUI
    patches. It is one of `comfy.ops`' layers to ComfyUI, but what it computes stays that of its own class."""

    weight: Tensor
    bias: Tensor | None
    scaled: Scaled | None  # of a weight that is stored in eight bits; it rests where the model computes

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        own = super().forward  # of the layer's class
        if not (self.comfy_cast_weights or self.weight_function or self.bias_function or self.scaled):
            return own(x, *args, **kwargs)
        weight, bias, stream = comfy.ops.cast_bias_weight(
            self,
            device=x.device,
            dtype=self.weight.dtype,
            bias_dtype=None if self.bias is None else self.bias.dtype,
            offloadable=True,
        )
        parameters = cast(dict[str, Any], self._parameters)
        resting = dict(parameters)
        parameters.update(weight=self.scaled(weight) if self.scaled else weight, bias=bias)
        try:
            return own(x, *args, **kwargs)
        finally:
            parameters.update(resting)
            comfy.ops.uncast_bias_weight(self, weight, bias, stream)


def cast_at_use(component: nn.Module) -> None:
    """Changes the class of every layer in it that has a weight and perhaps a bias, and nothing else. A weight in eight
    bits becomes the layer's own, in place of the parametrization that hides it from ComfyUI."""
    for layer in [*component.modules()]:
        scaled = _scaled(layer)
        if scaled is not None:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        names = {name for name, _ in layer.named_parameters()}
        if names in ({"weight"}, {"weight", "bias"}) and not (isinstance(layer, CastAtUse) or [*layer.buffers()]):
            layer.__class__ = _casting(type(layer))
            if not hasattr(layer, "bias"):
                layer.register_parameter("bias", None)  # ComfyUI looks for it
            layer.register_module("scaled", scaled)


def _scaled(layer: nn.Module) -> Scaled | None:
    """What `store_in_float8` put before the weight of a layer."""
    found = getattr(layer, "parametrizations", {})
    return next((each for each in found["weight"] if isinstance(each, Scaled)), None) if "weight" in found else None


@cache
def _casting(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (CastAtUse, kind), {})


class LayerPatcher(ModelPatcher):
    """Loads what fits of the layers of `cast_at_use`, and always all that is no such layer: ComfyUI's own would leave
    the rest where it is, for its models bring even a lone parameter to the device themselves."""

    def rest(self) -> list[nn.Module]:
        """Modules whose own parameters and buffers only work where the model computes."""
        return [module for module in self.model.modules() if not isinstance(module, CastAtUse)]

    def load(
        self,
        device_to: torch.device | None = None,
        lowvram_model_memory: float = 0,
        force_patch_weights: bool = False,
        full_load: bool = False,
    ) -> None:
        model, rest = cast(Any, self.model), self.rest()
        size = sum(each.nbytes for module in rest for each in _own_tensors(module))
        super().load(device_to, lowvram_model_memory - size, force_patch_weights, full_load)
        if not full_load:  # which takes the module as a whole
            for module in rest:
                module._apply(lambda tensor: tensor.to(device_to), recurse=False)
            model.model_loaded_weight_memory += size

    def _load_list(self, *args, **kwargs) -> list[tuple]:
        """(..., module, its parameters) of each module that can be loaded and unloaded by itself."""
        return [entry for entry in super()._load_list(*args, **kwargs) if isinstance(entry[-2], CastAtUse)]


def _own_tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]
