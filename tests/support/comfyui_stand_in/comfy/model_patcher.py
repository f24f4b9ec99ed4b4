from __future__ import annotations

import torch
from torch import nn


class ModelPatcher:
    def __init__(self, model: nn.Module, load_device: torch.device, offload_device: torch.device) -> None:
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.model.device = offload_device  # ComfyUI's writes there, too
        self.model.model_loaded_weight_memory = 0

    def load(
        self,
        device_to: torch.device | None = None,
        lowvram_model_memory: float = 0,
        force_patch_weights: bool = False,
        full_load: bool = False,
    ) -> None:
        """In the order of ComfyUI's, the largest first, with no room for what is being copied."""
        loaded = 0
        for size, _, layer, _ in sorted(self._load_list(), key=lambda entry: entry[:2], reverse=True):
            fits = full_load or loaded + size < lowvram_model_memory
            layer.comfy_cast_weights = not fits
            loaded += fits * size
        self.model.model_loaded_weight_memory = loaded

    def _load_list(self) -> list[tuple]:
        found = []
        for name, layer in self.model.named_modules():
            parameters = dict(layer.named_parameters(recurse=False))
            if parameters and len(parameters) == len([*layer.parameters()]):
                found.append((sum(each.nbytes for each in parameters.values()), name, layer, parameters))
        return found
