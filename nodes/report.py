"""Do picture and sound of a clip belong together?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..jointdit.errors import InputError
from ..jointdit.media import Clip, exact_fps, fit_audio
from .progress import Progress
from .sockets import CATEGORY, pixels_of, sound_of

if TYPE_CHECKING:
    from ..jointdit.evaluate.clip import ClipScores

LEAST_FRAMES = 3
CAUTION = (
    "One clip proves little: noise that never stops scores, too. Many clips beside shuffled pairs of them: "
    "jointdit evaluate FOLDER"
)


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
    def execute(cls, images: Tensor, audio: Mapping[str, Any], fps: float) -> io.NodeOutput:
        if len(images) < LEAST_FRAMES:
            raise InputError(f"{len(images)} frames show no motion; give at least {LEAST_FRAMES}")
        progress, rate, (draw_sync, score_clip) = Progress(2), exact_fps(fps), _measures()
        samples, sample_rate = sound_of(audio)
        fitted = fit_audio(samples, round(len(images) / rate * sample_rate))
        clip = Clip(pixels_of(images), rate, fitted, sample_rate)
        scores = score_clip(clip)
        progress(1, 2)
        plot = torch.from_numpy(draw_sync(clip)).float() / 255
        progress(2, 2)
        report = "\n".join([*scores.lines(), CAUTION])
        return io.NodeOutput(plot[None], report, scores.onset_align, scores.motion_loudness)


def _measures() -> tuple[Callable[[Clip], np.ndarray], Callable[[Clip], ClipScores]]:
    """Imported here: they need packages that the other nodes do without. Raises InputError that names what is missing
    with the command that installs it."""
    from ..jointdit.evaluate import draw_sync
    from ..jointdit.evaluate.clip import score_clip

    return draw_sync, score_clip
