"""Where a model comes from. Nothing is taken to a device here."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from comfy_api.v0_0_2 import io

from . import folders
from .sockets import CATEGORY, DEFAULTS, PRECISIONS, Model

WEIGHTS = ("as they are", "eight bits")


def _precision() -> io.Input:
    return io.Combo.Input(
        "precision",
        options=list(PRECISIONS),
        default=PRECISIONS[0],
        tooltip="Numbers to compute with. auto follows ComfyUI's device and its own options (--force-fp32, "
        "--bf16-unet, --fp32-vae and so on). float16 and bfloat16 halve the memory.",
        advanced=True,
    )


def _adapters() -> io.Input:
    return io.Combo.Input(
        "adapters",
        options=list(folders.adapters()),
        default=folders.NO_ADAPTERS,
        tooltip="Low-rank adapters of the experts, as stage B of training writes them: a folder in models/jointdit "
        "with video.safetensors, audio.safetensors or both. They go with the Joint Block file of the same training.",
        optional=True,  # graphs that were saved before this input was added stay valid
    )


def _lora() -> tuple[io.Input, io.Input]:
    """A file and its strength."""
    return (
        io.Combo.Input(
            "video_lora",
            options=list(folders.loras()),
            default=folders.NO_LORA,
            tooltip="A LoRA file (.safetensors) in models/loras that was trained for Stable Video Diffusion, "
            "with the names of diffusers, PEFT, kohya or ComfyUI. One of another model is refused.",
            optional=True,  # graphs that were saved before this input was added stay valid
            advanced=True,
        ),
        io.Float.Input(
            "lora_strength",
            default=1.0,
            min=-10.0,
            max=10.0,
            step=0.05,
            tooltip="How strongly video_lora changes the video expert: 1 as it was trained, 0 not at all.",
            optional=True,
            advanced=True,
        ),
    )


def _output() -> io.Output:
    return Model.Output(
        "model",
        display_name="model",
        tooltip="Both experts with their Joint Blocks, encoders and decoders. Its parts are loaded when they are used.",
    )


class LoadModel(io.ComfyNode):
    """A whole JointDiT model: the bundled one or a folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTLoadModel",
            display_name="JointDiT Load Model",
            category=CATEGORY,
            description="Loads a model that turns a picture into a video with its own sound. 'tiny' is bundled: "
            "nothing to download. Others are folders in models/jointdit.",
            search_aliases=["image to video with sound", "audio video model", "load jointdit"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(folders.models()),
                    default="tiny",
                    tooltip="tiny comes with this extension (128 x 128 pixels, 1.6 s, runs on a CPU). Put other model "
                    "folders, each with its model_index.json, into models/jointdit.",
                    extra_dict={DEFAULTS: folders.own_values()},
                ),
                _precision(),
                io.Combo.Input(
                    "joint_blocks",
                    options=list(folders.joint_blocks(own=True)),
                    default=folders.OWN_BLOCKS,
                    tooltip="A Joint Block file (.safetensors) in models/jointdit that was trained for this model, to "
                    "take the place of its own. With the identity each expert makes what it would make alone.",
                    optional=True,
                ),
                _adapters(),
                *_lora(),
            ],
            outputs=[_output()],
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        return folders.complaint(folders.find_model, model)

    @classmethod
    def fingerprint_inputs(cls, precision: str, lora_strength: float = 1.0, **names: str) -> object:
        return [folders.fingerprint(place) for place in _places_of_model(**names)], precision, lora_strength

    @classmethod
    def execute(cls, precision: str, lora_strength: float = 1.0, **names: str) -> io.NodeOutput:
        from .work.load import load_model

        return io.NodeOutput(load_model(*_places_of_model(**names), lora_strength, precision))


def _places_of_model(
    model: str,
    joint_blocks: str = folders.OWN_BLOCKS,
    adapters: str = folders.NO_ADAPTERS,
    video_lora: str = folders.NO_LORA,
) -> tuple[Path, Path | str | None, Path | None, Path | None]:
    """What the names stand for: a folder, its Joint Blocks, its adapters and a LoRA file, as the library takes them."""
    return (
        folders.find_model(model),
        folders.find_joint_blocks(joint_blocks, own=True),
        folders.find_adapters(adapters),
        folders.find_lora(video_lora),
    )


class LoadExperts(io.ComfyNode):
    """Stable Video Diffusion and AudioLDM2 joined."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTLoadExperts",
            display_name="JointDiT Load Experts",
            category=CATEGORY,
            description="Joins Stable Video Diffusion and AudioLDM2 with trained Joint Blocks. Without a Joint Block "
            "file video and sound do not know of each other.",
            search_aliases=["svd", "stable video diffusion", "audioldm2", "joint blocks"],
            inputs=[
                io.Combo.Input(
                    "video_expert",
                    options=folders.expert_names("video"),
                    tooltip="Stable Video Diffusion as one file, models/checkpoints/svd*.safetensors (25 frames if xt "
                    "is in its name, else 14), or as a folder in diffusers' layout in models/diffusers or "
                    "models/jointdit. Without it the error has the command that fetches it.",
                ),
                io.Combo.Input(
                    "audio_expert",
                    options=folders.expert_names("audio"),
                    tooltip="Folder of AudioLDM2, of its large or of its music variant, in models/diffusers or "
                    "models/jointdit. Without it the error has the command that fetches it.",
                ),
                io.Combo.Input(
                    "joint_blocks",
                    options=list(folders.joint_blocks()),
                    default=folders.NO_JOINT_FILE,
                    tooltip="A Joint Block file (.safetensors) in models/jointdit, made by training. Without one they "
                    "start as the identity: each expert makes what it would make alone.",
                ),
                _precision(),
                _adapters(),
                *_lora(),
                io.Combo.Input(
                    "weights",
                    options=list(WEIGHTS),
                    default=WEIGHTS[0],
                    tooltip="How both experts are kept. Eight bits (float8) are half the memory of float16, with small "
                    "errors.",
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[_output()],
        )

    @classmethod
    def validate_inputs(
        cls,
        video_expert: str | None = None,
        audio_expert: str | None = None,
        joint_blocks: str | None = None,
        adapters: str | None = None,
        video_lora: str | None = None,
    ) -> bool:
        # What is taken here ComfyUI does not refuse for being no choice: `execute` says what is missing, all at once,
        # with the commands that fetch it.
        return True

    @classmethod
    def fingerprint_inputs(
        cls, precision: str, lora_strength: float = 1.0, weights: str = WEIGHTS[0], **names: str
    ) -> object:
        return [folders.fingerprint(place) for place in _places_of_experts(**names)], precision, lora_strength, weights

    @classmethod
    def execute(
        cls, precision: str, lora_strength: float = 1.0, weights: str = WEIGHTS[0], **names: str
    ) -> io.NodeOutput:
        from .work.load import load_experts

        places, float8 = _places_of_experts(**names), weights == WEIGHTS[1]
        return io.NodeOutput(load_experts(*places, lora_strength, precision, float8))


def _places_of_experts(
    video_expert: str,
    audio_expert: str,
    joint_blocks: str,
    adapters: str = folders.NO_ADAPTERS,
    video_lora: str = folders.NO_LORA,
) -> tuple[Path, Path, Path | str | None, Path | None, Path | None]:
    """What the names stand for: both experts, their Joint Blocks, their adapters and a LoRA file, as the library takes
    them.

    Raises InputError that names all that is missing.
    """
    return folders.all_found(
        partial(folders.find_expert, "video", video_expert),
        partial(folders.find_expert, "audio", audio_expert),
        partial(folders.find_joint_blocks, joint_blocks),
        partial(folders.find_adapters, adapters),
        partial(folders.find_lora, video_lora),
    )
