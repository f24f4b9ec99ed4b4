"""The tab that measures whether picture and sound of a clip belong together."""

from __future__ import annotations

import gradio as gr
import numpy as np

from ..errors import InputError
from ..media import read_clip

LONGEST = 30.0  # seconds that are looked at
CAUTION = "One clip proves little: noise that never stops scores, too. `jointdit evaluate` measures many beside chance."


def report_tab() -> None:
    """A clip in, the plot of its motion and loudness with the scores out."""
    gr.Markdown("Motion over loudness of any clip, with the events that are seen and heard. " + CAUTION)
    with gr.Row():
        clip = gr.Video(label="Clip with sound", sources=["upload"], elem_id="sync-clip")
        with gr.Column():
            scores = gr.Textbox(label="Scores", placeholder="They are here once a clip is.", lines=3, elem_id="scores")
            plot = gr.Image(
                label="Motion and loudness", interactive=False, elem_id="report", buttons=["download", "fullscreen"]
            )
    clip.change(sync_report, clip, [scores, plot], api_name="sync_report")


def sync_report(clip: str | None) -> tuple[str, np.ndarray | None]:
    """Scores in words, and the plot, of the beginning of a clip."""
    if not clip:
        return "", None
    try:
        from ..evaluate import draw_sync
        from ..evaluate.clip import score_clip

        given = read_clip(clip, max_seconds=LONGEST)
        if not given.has_audio:
            raise InputError("this clip has no sound")
        return "\n".join(score_clip(given).lines()), draw_sync(given)
    except InputError as error:
        raise gr.Error(str(error), print_exception=False) from error
