"""A memory manager on the CPU."""

from __future__ import annotations

import stand_in_record as record
import torch

OOM_EXCEPTION = torch.OutOfMemoryError


class InterruptProcessingException(BaseException):
    pass


def get_torch_device() -> torch.device:
    return torch.device("cpu")


def unet_offload_device() -> torch.device:
    return torch.device("cpu")


def unet_dtype(device: torch.device, supported_dtypes: list[torch.dtype]) -> torch.dtype:
    return torch.float32


def unet_manual_cast(
    weight_dtype: torch.dtype, inference_device: torch.device, supported_dtypes: list[torch.dtype]
) -> torch.dtype | None:
    return torch.bfloat16 if torch.bfloat16 in supported_dtypes else None


def should_use_bf16(device: torch.device) -> bool:
    return False


def should_use_fp16(device: torch.device) -> bool:
    return False


def get_free_memory(device: torch.device) -> float:
    return 2.0**34


def soft_empty_cache() -> None:
    pass


def load_models_gpu(models: list, memory_required: float = 0, force_full_load: bool = False) -> None:
    assert not torch.is_inference_mode_enabled()
    for model in models:
        model.load(get_torch_device(), full_load=True)  # as where nothing but a CPU is there
    record.loaded.extend(type(model.model.component).__name__ for model in models)


def throw_exception_if_processing_interrupted() -> None:
    if record.interrupt_after is None:
        return
    record.interrupt_after -= 1
    if record.interrupt_after < 0:
        record.interrupt_after = None
        raise InterruptProcessingException
