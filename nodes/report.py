"""Do picture and sound of a clip belong together?"""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from .sockets import CATEGORY


class SyncReport(io.ComfyNode):
    """What is seen over what is heard, drawn and scored."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JointDiTSyncReport",
            display_name="JointDiT Sync Report",
            category=CATEGORY,
            description="Draws what is seen over what is heard, and scores whether both belong together. Works on any "
            "frames with a sound.",
            search_aliases=["synchronization", "av-align", "evaluate", "measure"],
            inputs=[
                io.Image.Input("images", tooltip="Frames of the clip, from JointDiT Decode Video or any video."),
                io.Audio.Input("audio", tooltip="Its sound; what is longer than the frames is left out."),
                io.Float.Input(
                    "fps",
                    default=12.5,
                    min=0.1,
                    max=240.0,
                    step=0.001,
                    tooltip="Frames in a second. Connect fps of JointDiT Condition or Get Video Components.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "plot",
                    display_name="plot",
                    tooltip="Frames over the spectrogram, and below them motion and loudness with the events seen and "
                    "heard; those within one frame of each other are marked.",
                ),
                io.String.Output("report", display_name="report", tooltip="The scores in words. For Preview as Text."),
                io.Float.Output(
                    "onset_align",
                    display_name="onset_align",
                    tooltip="Onset alignment, 0 to 1: peaks of motion and onsets of sound that coincide, over all of "
                    "either. High for clips that are noisy all the time, too.",
                ),
                io.Float.Output(
                    "motion_loudness",
                    display_name="motion_loudness",
                    tooltip="Correlation of motion with loudness over the frames, -1 to 1.",
                ),
            ],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        from .work.report import report_sync

        return io.NodeOutput(*report_sync(**given))
