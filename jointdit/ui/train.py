"""The tab that trains Joint Blocks on a folder of videos: the commands `cache` and `train`, run beside the page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from ..errors import InputError

LOOK = 1.0  # seconds between two looks at the log


def train_tab(models: Sequence[str]) -> None:
    """Folders in, the loss curve and the samples out. What it writes is what the commands write."""
    gr.Markdown(
        "Trains the Joint Blocks of a model on the videos in a folder (Stage A). The result, "
        "`train/joint_blocks.safetensors`, goes into the field *Joint Block file* of the first tab. The same folders "
        "go on with a run that was stopped."
    )
    with gr.Row():
        with gr.Column(scale=2):
            videos = gr.Textbox(label="Folder of videos with sound", elem_id="videos")
            output = gr.Textbox(label="Folder for the result", value="run", elem_id="output")
            model = gr.Dropdown(list(models), value=models[0], label="Model", allow_custom_value=True)
            steps = gr.Number(label="Steps", precision=0, value=300, minimum=1, elem_id="steps")
            batch = gr.Number(label="Clips in a step", precision=0, value=8, minimum=1)
            with gr.Row():
                start = gr.Button("Train", variant="primary", elem_id="train")
                stop = gr.Button("Stop, to go on later", variant="stop", elem_id="stop-training")
        with gr.Column(scale=3):
            said = gr.Textbox(label="Progress", lines=3, elem_id="training")
            curve = gr.LinePlot(x="step", y="loss", title="Loss")
            samples = gr.Gallery(label="Samples", columns=4)
    run = start.click(
        train,
        [videos, output, model, steps, batch],
        [said, curve, samples],
        api_name="train",
        show_progress="hidden",
        concurrency_limit=1,
        concurrency_id="device",
    )
    stop.click(lambda: "Stopped; the same folders go on.", None, said, cancels=[run], queue=False)


def train(videos: str, output: str, model: str, steps: float, batch: float) -> Iterator[tuple[str, Any, list[str]]]:
    """Caches the videos and trains on them, and yields what is to be seen. Ends both when it is closed."""
    if not videos.strip() or not Path(videos).is_dir():
        raise gr.Error(f"there is no folder {videos!r}; name one with videos", print_exception=False)
    folder = Path(output.strip() or "run").absolute()
    cache, run = folder / "cache", folder / "train"
    settings = {
        "model": model,
        "joint": "identity",
        "cache": cache,
        "output": run,
        "steps": int(steps),
        "batch": int(batch),
        "save_every": max(1, int(steps) // 4),
        "validate_every": max(1, int(steps) // 4),
        "tensorboard": "false",
    }
    training = ["train", "a"]
    for name, value in settings.items():
        training += ["--set", f"{name}={value}"]
    try:
        yield "caching", None, []
        for line in _lines(["cache", str(Path(videos).absolute()), str(cache), "--model", model]):
            yield line, None, []
        for line in _lines(training):
            yield line, losses(run / "log.jsonl"), [str(path) for path in sorted((run / "samples").rglob("*.mp4"))]
    except InputError as error:
        raise gr.Error(str(error), print_exception=False) from error


def losses(log: Path) -> pd.DataFrame | None:
    """Steps and losses in a training's log; None where there is nothing yet."""
    if not log.is_file():
        return None
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    rows = [(record["step"], record["loss"]) for record in records if "loss" in record]
    return pd.DataFrame(rows, columns=["step", "loss"]) if rows else None


def _lines(arguments: Sequence[str]) -> Iterator[str]:
    """The last line that a command has said, now and then. Closing ends it as Ctrl-C does, which loses nothing.

    Raises InputError with its error.
    """
    command = [sys.executable, "-m", "jointdit", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        said = ""
        try:
            while process.poll() is None:
                time.sleep(LOOK)
                said = (said + (process.stdout.read() or ""))[-4000:]
                yield _last(said)
            said += process.stdout.read() or ""
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
    if process.returncode:
        raise InputError(_last(said).removeprefix("jointdit: error: "))
    yield _last(said)


def _last(text: str) -> str:
    lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else ""
