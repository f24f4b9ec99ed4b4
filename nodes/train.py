"""A latent cache to Joint Blocks."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from . import folders, places
from .sockets import CATEGORY, PRECISIONS, Cache, Model, model_input

STAGES, MEMORY = ("a", "b"), ("auto", "fixed")


class Train(io.ComfyNode):
    """Stage A: the experts stay as they are, the Joint Blocks and the image-to-audio adapter learn. Stage B: the
    experts too."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTTrain",
            display_name="JointDiT Train",
            category=CATEGORY,
            description="Trains the Joint Blocks, through which sound and picture see each other, on a latent cache. "
            "Cancel keeps the state: the same settings queued again go on from there.",
            search_aliases=["finetune", "training", "joint block file", "learn"],
            is_experimental=True,
            is_output_node=True,
            inputs=[
                model_input(),
                Cache.Input("cache", tooltip="From JointDiT Cache Latents with the same model."),
                io.String.Input(
                    "name",
                    default="my_joint_blocks",
                    tooltip="Name of the result in models/jointdit. The state is in output/jointdit/training/NAME; an "
                    "existing training of that name is continued.",
                ),
                io.Int.Input(
                    "steps",
                    default=1000,
                    min=1,
                    max=10_000_000,
                    tooltip="Training ends after so many steps. 200 show that it learns; a good result takes more.",
                ),
                io.Int.Input(
                    "batch",
                    default=8,
                    min=1,
                    max=4096,
                    tooltip="Clips of a step. If memory runs out, fewer are computed at once, which changes no result.",
                ),
                io.Float.Input(
                    "rate",
                    default=1e-4,
                    min=1e-7,
                    max=1e-1,
                    step=1e-7,
                    tooltip="The learning rate at its peak: a linear start, then half a cosine down to zero. 0.003 "
                    "suits tiny; wider Joint Blocks need less: 0.0001 those of the real experts.",
                ),
                io.Int.Input(
                    "training_seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    tooltip="Fixes the order of the clips and all their noise.",
                    advanced=True,
                ),
                io.Int.Input(
                    "held_out",
                    default=1,
                    min=1,
                    max=10_000,
                    tooltip="Clips of the cache that are never trained on; the log has their loss.",
                    advanced=True,
                ),
                io.Int.Input(
                    "save_every",
                    default=100,
                    min=1,
                    max=1_000_000,
                    tooltip="Steps between states on disk. Cancel saves one, too; only a crash loses what came after.",
                    advanced=True,
                ),
                io.Int.Input(
                    "query_chunk",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Queries that a Joint Block attends with at once: fewer take less memory and change no "
                    "result. 0: all, unless ComfyUI was told to save memory (--use-split-cross-attention).",
                    optional=True,  # graphs that were saved before this input was added stay valid
                    advanced=True,
                ),
                io.Int.Input(
                    "video_pool",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Joint Blocks attend to averages of so many by so many video tokens, for less memory: an "
                    "approximation. 1: none.",
                    optional=True,
                    advanced=True,
                ),
                io.Combo.Input(
                    "stage",
                    options=list(STAGES),
                    default="a",
                    tooltip="a: the Joint Blocks learn, and both experts stay as they are. b: the experts learn too, "
                    "at a lower rate; it starts from the Joint Blocks of the model.",
                    optional=True,
                    advanced=True,
                ),
                io.Int.Input(
                    "adapter_rank",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="In stage b: low-rank adapters of this rank learn instead of the experts' own weights, "
                    "which takes far less memory. 0: none; all weights learn, and a whole model is written.",
                    optional=True,
                    advanced=True,
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default=PRECISIONS[0],
                    tooltip="Arithmetic of the training; what learns is kept in float32. auto: what ComfyUI chooses "
                    "for the device. float16 needs a GPU, float32 a model that was loaded in float32.",
                    optional=True,
                    advanced=True,
                ),
                io.Combo.Input(
                    "memory",
                    options=list(MEMORY),
                    default="auto",
                    tooltip="auto: on a GPU it is measured how many clips fit at once, and activations are computed "
                    "again where that is needed. fixed: as the two inputs below say, or an error.",
                    optional=True,
                    advanced=True,
                ),
                io.Int.Input(
                    "micro_batch",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="With memory fixed: clips that are computed at once. It changes no result. 0: all of a "
                    "step.",
                    optional=True,
                    advanced=True,
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=False,
                    tooltip="With memory fixed: activations are computed again in the backward pass, which takes less "
                    "memory and a third more time.",
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[
                Model.Output("model", display_name="model", tooltip="The same model with what was trained."),
                io.String.Output(
                    "file",
                    display_name="file",
                    tooltip="Name in models/jointdit: a Joint Block file, in stage b with a folder of adapters beside "
                    "it, or without adapters a model folder.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        return folders.complaint(places.free_file, name)

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        from .work.train import train

        return io.NodeOutput(*train(**given))
