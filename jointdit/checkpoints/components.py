"""The components of a model in one table, from which every list of them is made.

Their classes are imported when they are asked for: the command line reads the table before anything heavy is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Expert = Literal["video", "audio"]
Role = Literal["autoencoder", "vocoder", "denoiser", "scheduler", "image", "text"]

INDEX = "model_index.json"  # names the components of a model folder
IDENTITY = "identity"  # in place of a Joint Block file: blocks that have learned nothing and change nothing
ADAPTER_FILES = {"video_unet": "video.safetensors", "audio_unet": "audio.safetensors"}  # files of a folder of them
# Inside ComfyUI this package has another name, so its own classes are found relative to this module.
MODULES = {"diffusers": "diffusers", "transformers": "transformers", "jointdit": "..models.joint_block"}
# Names of the files that hold a component's weights, without their endings.
WEIGHTS = {"diffusers": "diffusion_pytorch_model", "transformers": "model", "jointdit": "diffusion_pytorch_model"}


@dataclass(frozen=True)
class Component:
    """One component: an attribute of the pipeline, an entry of `model_index.json` and a folder, all of this name.

    expert: the pretrained expert that it is a part of, or "joint".
    role: what it does; "image" and "text" turn pictures and prompts into conditions.
    library: where its classes are from, as `model_index.json` has it.
    types: the names of the classes that it may be; of several, the last is the published expert's.
    folder: where it is in the expert's published layout; a folder of its own name where None.
    is_module: whether it is a torch module, with weights.
    optional: whether a model may lack it, as one with a single text encoder does.
    """

    name: str
    expert: Expert | Literal["joint"]
    role: Role
    library: Literal["diffusers", "transformers", "jointdit"]
    types: tuple[str, ...]
    folder: str | None = None
    is_module: bool = True
    optional: bool = False

    @property
    def names(self) -> list[str]:
        """Of the classes that it may be, as `model_index.json` has them."""
        # Only before version 5 of transformers do its tokenizers carry the ending.
        return [name.removesuffix("Fast") for name in self.types]

    def load_class(self, name: str) -> type[Any]:
        """One of `names`, the only one that is imported."""
        return getattr(import_module(MODULES[self.library], __package__), self.types[self.names.index(name)])

    @property
    def weights(self) -> str | None:
        """The name of the file with its weights, without endings; None if it has none."""
        return WEIGHTS[self.library] if self.is_module else None


_TABLE = (
    Component("video_vae", "video", "autoencoder", "diffusers", ("AutoencoderKLTemporalDecoder",), folder="vae"),
    Component("video_unet", "video", "denoiser", "diffusers", ("UNetSpatioTemporalConditionModel",), folder="unet"),
    Component("video_scheduler", "video", "scheduler", "diffusers", ("EulerDiscreteScheduler",), "scheduler", False),
    Component("image_encoder", "video", "image", "transformers", ("CLIPVisionModelWithProjection",)),
    Component("feature_extractor", "video", "image", "transformers", ("CLIPImageProcessor",), is_module=False),
    Component("audio_vae", "audio", "autoencoder", "diffusers", ("AutoencoderKL",), folder="vae"),
    Component("vocoder", "audio", "vocoder", "transformers", ("SpeechT5HifiGan",)),
    Component("audio_unet", "audio", "denoiser", "diffusers", ("AudioLDM2UNet2DConditionModel",), folder="unet"),
    Component("audio_scheduler", "audio", "scheduler", "diffusers", ("DDIMScheduler",), "scheduler", False),
    Component("joint_blocks", "joint", "denoiser", "jointdit", ("JointBlocks",)),
    Component("tokenizer", "audio", "text", "transformers", ("CLIPTokenizerFast", "RobertaTokenizer"), is_module=False),
    Component("text_encoder", "audio", "text", "transformers", ("CLIPTextModel", "ClapModel")),
    Component("tokenizer_2", "audio", "text", "transformers", ("T5Tokenizer",), is_module=False, optional=True),
    Component("text_encoder_2", "audio", "text", "transformers", ("T5EncoderModel",), optional=True),
    Component("projection_model", "audio", "text", "diffusers", ("AudioLDM2ProjectionModel",), optional=True),
    Component("language_model", "audio", "text", "transformers", ("GPT2LMHeadModel",), optional=True),
)
COMPONENTS = {component.name: component for component in _TABLE}
OPTIONAL = tuple(name for name, component in COMPONENTS.items() if component.optional)
TEXT_ENCODERS = tuple(name for name, each in COMPONENTS.items() if each.role == "text" and each.is_module)


def published_folders(expert: Expert) -> dict[str, Component]:
    """The components of an expert by their folders in its published layout."""
    return {each.folder or each.name: each for each in _TABLE if each.expert == expert}
