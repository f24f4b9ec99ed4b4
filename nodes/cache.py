"""Videos to latents to train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ..jointdit.datasets.recordings import LAYOUTS
from ..jointdit.errors import InputError
from . import folders, places
from .shape import shape_inputs
from .sockets import CATEGORY, Cache, model_input


class CacheLatents(io.ComfyNode):
    """A folder of sounding videos to a latent cache."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTCacheLatents",
            display_name="JointDiT Cache Latents",
            category=CATEGORY,
            description="Cuts a folder of sounding videos into clips and keeps their latents for JointDiT Train, once. "
            "Queue it again to continue after a stop.",
            search_aliases=["dataset", "training data", "encode videos"],
            is_experimental=True,
            is_output_node=True,
            inputs=[
                model_input(),
                io.Combo.Input(
                    "videos",
                    options=list(places.video_folders()) or [places.NO_VIDEOS],
                    tooltip="A folder in ComfyUI's input folder. In it is a folder of videos for each caption, named "
                    "like it: input/my_videos/dog barking/1.mp4.",
                ),
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    default="classes",
                    tooltip="How captions are found. classes: folders are named like them, and a .txt beside a video "
                    "takes precedence. synth: made by jointdit synth. Others: the published sets, of which the part "
                    "for training is taken.",
                ),
                io.String.Input(
                    "name",
                    default="my_videos",
                    tooltip="Name of the cache, in output/jointdit/caches. An existing one is continued; "
                    "another size, rate or model needs another name.",
                ),
                *shape_inputs(),
            ],
            hidden=[io.Hidden.prompt],
            outputs=[
                Cache.Output("cache", display_name="cache", tooltip="The latents, for JointDiT Train."),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="How many clips there are, and which files were left out, and why. For Preview as Text.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        return folders.complaint(places.cache_folder, name)

    @classmethod
    def fingerprint_inputs(cls, videos: str, **others: object) -> object:
        folder = places.find_videos(videos)
        return [(str(path), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*.*"))]

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        from .work.cache import cache_latents

        _check_trainings(cls.hidden.prompt)
        return io.NodeOutput(*cache_latents(**given))


def _check_trainings(prompt: Mapping[str, Any] | None) -> None:
    """A cache takes long, and ComfyUI makes it even where the training behind it is refused: this refuses first."""
    for node in (prompt or {}).values():
        if node["class_type"] == "JointDiTTrain" and isinstance(name := node["inputs"].get("name"), str):
            try:
                places.free_file(name)
            except InputError as error:
                raise InputError(f"JointDiT Train: {error}") from error
