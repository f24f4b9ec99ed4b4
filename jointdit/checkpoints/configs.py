"""Settings of components as they stand in a folder, before any library reads them.

diffusers takes a config that is a text for the name of a model on the Hub, and transformers fetches the kernels that a
config names: so each file is a JSON object, and nothing in it points outside of the folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Annotated, Any, Optional

from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from ..checked import Between, Count, Counts, arguments, fit, placed, read_object
from ..errors import InputError
from ..models.joint_block import JointBlocks

# Keys with which a config asks for code, kernels or weights from elsewhere, and the values that do not.
FOREIGN: Mapping[str, tuple[object, ...]] = {
    "auto_map": (),
    "quantization_config": (),
    "attn_implementation": ("eager", "sdpa"),
    "_attn_implementation": ("eager", "sdpa"),
    "_attn_implementation_internal": ("eager", "sdpa"),
    "experts_implementation": ("eager",),
    "_experts_implementation": ("eager",),
    "_experts_implementation_internal": ("eager",),
}
REDIRECTION = "adapter_config.json"  # transformers loads the model that it names instead

Channels = Annotated[int, Between(1, 2**16)]
Factor = Annotated[float, Between(1e-6, 1e6)]
Rate = Annotated[float, Between(0, 1)]
Level = Optional[Annotated[float, Between(0, 1e6)]]  # noqa: UP045
Epsilon = Optional[Annotated[float, Between(1e-12, 1)]]  # noqa: UP045
_AUTOENCODER: Mapping[str, Any] = {
    "in_channels": Channels,
    "latent_channels": Channels,
    "block_out_channels": Counts,
    "scaling_factor": Factor,
    "force_upcast": bool,
}
_SCHEDULER: Mapping[str, Any] = {
    "num_train_timesteps": Annotated[int, Between(2, 100_000)],
    "beta_start": Rate,
    "beta_end": Rate,
    "sigma_min": Level,
    "sigma_max": Level,
    "steps_offset": Annotated[int, Between(0, 100)],
    "trained_betas": list[Rate] | None,
    "prediction_type": str,
}
# What this library reads of configs, by the class that has them. The rest is the classes' own: whether it fits is seen
# from the weights.
READ: Mapping[str, Mapping[str, Any]] = {
    "AutoencoderKLTemporalDecoder": _AUTOENCODER,
    "AutoencoderKL": _AUTOENCODER,
    "UNetSpatioTemporalConditionModel": {
        "in_channels": Channels,
        "out_channels": Channels,
        "block_out_channels": Counts,
        "num_frames": Annotated[int, Between(1, 1000)],
        "_resnet_epsilon": Epsilon,
    },
    "AudioLDM2UNet2DConditionModel": {
        "in_channels": Channels,
        "out_channels": Channels,
        "block_out_channels": Counts,
        "_resnet_epsilon": Epsilon,
    },
    "EulerDiscreteScheduler": _SCHEDULER,
    "DDIMScheduler": _SCHEDULER,
    "CLIPVisionModelWithProjection": {"image_size": Annotated[int, Between(1, 4096)], "projection_dim": Count},
    "CLIPTextModel": {"max_position_embeddings": Annotated[int, Between(2, 4096)]},
    "T5EncoderModel": {"d_model": Count},
    "GPT2LMHeadModel": {
        "n_embd": Count,
        "n_positions": Annotated[int, Between(1, 8192)],
        "max_new_tokens": Annotated[int, Between(1, 100)],
    },
    "SpeechT5HifiGan": {
        "model_in_dim": Annotated[int, Between(1, 1024)],
        "upsample_rates": Annotated[list[Annotated[int, Between(1, 1000)]], Between(1, 16)],
        "sampling_rate": Annotated[int, Between(1000, 384_000)],
        "clock": Annotated[list[float], Between(0, 1000)],
    },
    "CLIPImageProcessor": {
        "image_mean": Annotated[list[float], Between(3, 3)],
        "image_std": Annotated[list[Annotated[float, Between(1e-6, 1e6)]], Between(3, 3)],
    },
}


def check_configs(cls: type[Any], folder: Path) -> None:
    """Raises InputError that names file, key and value for settings of a component that must not be used."""
    if (folder / REDIRECTION).exists():
        raise InputError(f"{folder / REDIRECTION}: an adapter, which is not read here; fuse it, and delete this file")
    name = next((base.__name__ for base in cls.__mro__ if base.__name__ in READ), "")
    if cls.__name__.startswith("CLIPImageProcessor"):
        name = "CLIPImageProcessor"
    for path in sorted(folder.glob("*.json")):
        settings = read_object(path)
        with placed(path):
            _refuse_foreign(settings)
            if path.name == "config.json" and cls is JointBlocks:  # all of it is ours
                arguments(cls, {key: value for key, value in settings.items() if not key.startswith("_")})
            for key, hint in READ.get(name, {}).items():
                if key in settings and path.name.endswith("config.json"):
                    fit(hint, settings[key], key)


def _refuse_foreign(settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if key in FOREIGN and value is not None and value not in FOREIGN[key]:
            raise InputError(f"{key} would bring in code or weights from elsewhere; delete it")
        if isinstance(value, dict):
            _refuse_foreign(value)


@contextmanager
def no_more_parts_than(tensors: int) -> Iterator[None]:
    """Raises InputError, without a place, once modules that are made in this block have many more parts than there are
    tensors for them: a config can ask for a million layers, which would take minutes and gigabytes to make in vain."""
    thread, left = get_ident(), 4 * tensors + 1000

    def count(module: nn.Module, name: str, part: object) -> None:
        nonlocal left
        if get_ident() == thread:
            left -= 1
            if left < 0:
                raise InputError(f"the config asks for far more layers than the {tensors} tensors of the weights")

    hooks = [register(count) for register in (
        register_module_module_registration_hook, register_module_parameter_registration_hook)]  # fmt: skip
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
