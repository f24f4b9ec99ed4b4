"""Where a model comes from. Nothing is taken to a device here."""

from __future__ import annotations

from functools import partial

import torch
from comfy_api.latest import io

from . import folders
from .memory import DTYPES, ManagedModel, ManagedPipeline, dtype_of
from .sockets import CATEGORY, Model


def _precision() -> io.Input:
    return io.Combo.Input(
        "precision",
        options=["auto", *DTYPES],
        default="auto",
        tooltip="Numbers to compute with. auto follows ComfyUI's device and its own options (--force-fp32, --bf16-unet "
        "and so on). float16 and bfloat16 halve the memory.",
        advanced=True,
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
                ),
                _precision(),
            ],
            outputs=[_output()],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        return folders.complaint(folders.find_model, model)

    @classmethod
    def fingerprint_inputs(cls, model: str, precision: str) -> object:
        return folders.fingerprint(folders.find_model(model)), precision

    @classmethod
    def execute(cls, model: str, precision: str) -> io.NodeOutput:
        folder = folders.find_model(model)
        with torch.inference_mode(False):
            pipe = ManagedPipeline.from_pretrained(folder, dtype_of(precision))
        return io.NodeOutput(ManagedModel(pipe))


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
                    "models/jointdit. To fetch it: jointdit fetch-models svd-xt --to models/diffusers",
                ),
                io.Combo.Input(
                    "audio_expert",
                    options=folders.expert_names("audio"),
                    tooltip="Folder of AudioLDM2, of its large or of its music variant, in models/diffusers or "
                    "models/jointdit. To fetch it: jointdit fetch-models audioldm2 --to models/diffusers",
                ),
                io.Combo.Input(
                    "joint_blocks",
                    options=[folders.NO_JOINT_FILE, *folders.joint_files()],
                    default=folders.NO_JOINT_FILE,
                    tooltip="A Joint Block file (.safetensors) in models/jointdit, made by training. Without one they "
                    "start as the identity: each expert makes what it would make alone.",
                ),
                _precision(),
            ],
            outputs=[_output()],
        )

    @classmethod
    def validate_inputs(cls, video_expert: str, audio_expert: str, joint_blocks: str) -> bool | str:
        found = (
            folders.complaint(partial(folders.find_expert, "video"), video_expert),
            folders.complaint(partial(folders.find_expert, "audio"), audio_expert),
            folders.complaint(folders.find_joint_file, joint_blocks),
        )
        return next((each for each in found if each is not True), True)

    @classmethod
    def fingerprint_inputs(cls, video_expert: str, audio_expert: str, joint_blocks: str, precision: str) -> object:
        paths = (
            folders.find_expert("video", video_expert),
            folders.find_expert("audio", audio_expert),
            folders.find_joint_file(joint_blocks),
        )
        return [folders.fingerprint(path) for path in paths], precision

    @classmethod
    def execute(cls, video_expert: str, audio_expert: str, joint_blocks: str, precision: str) -> io.NodeOutput:
        video, audio = folders.find_expert("video", video_expert), folders.find_expert("audio", audio_expert)
        with torch.inference_mode(False):
            pipe = ManagedPipeline.from_experts(
                video, audio, folders.find_joint_file(joint_blocks), dtype_of(precision)
            )
        return io.NodeOutput(ManagedModel(pipe))
