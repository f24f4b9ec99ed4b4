"""The tab that trains Joint Blocks on a folder of videos: the commands `cache` and `train`, run beside the page."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from ..errors import InputError
from ..train.cache_index import read_shards
from .visitors import Visitors

RATE = 3e-3  # for the bundled model; docs/training.md
LOOK = 1.0  # seconds between two looks at the log
SHOWN = 4000  # bytes of what a command says that its last line is looked for in
MOST_HELD_OUT, MOST_SAMPLES = 32, 8  # clips; of a small folder, fewer
Seen = tuple[str, Any, list[str], Any]  # what was said, the losses, the samples, the result


def train_tab(models: Sequence[str], visitors: Visitors, folder: Path, joint: gr.components.Component) -> None:
    """Folders in, the loss curve and the samples out. What it writes is what the commands write.

    folder: of the page, which may show what is in it.    joint: where the result goes.
    """
    gr.Markdown(
        "Trains the Joint Blocks of a model on the videos in a folder (Stage A). The result, "
        "`train/joint_blocks.safetensors`, is then in the field *Joint Block file* of the first tab. The same folders "
        "go on with a run that was stopped."
    )
    with gr.Row():
        with gr.Column(scale=2):
            videos = gr.Textbox(
                label="Folder of videos with sound", placeholder="a folder of this machine", elem_id="videos"
            )
            output = gr.Textbox(label="Folder for the result", value="run", elem_id="output")
            model = gr.Dropdown(list(models), value=models[0], label="Model", allow_custom_value=True)
            steps = gr.Number(label="Steps", precision=0, value=300, minimum=1, elem_id="training-steps")
            batch = gr.Number(label="Clips in a step", precision=0, value=8, minimum=1, elem_id="training-batch")
            rate = gr.Number(
                label="Learning rate",
                value=RATE,
                minimum=1e-7,
                maximum=0.1,
                step=1e-7,
                info="0.003 suits tiny; wider Joint Blocks need less: 0.0001 those of the real experts",
                elem_id="training-rate",
            )
            with gr.Row():
                start = gr.Button("Train", variant="primary", elem_id="train")
                stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop-training")
        with gr.Column(scale=3):
            said = gr.Textbox(
                label="Progress",
                placeholder="What the training says is here while it runs; the loss and samples come below.",
                lines=3,
                elem_id="training",
            )
            curve = gr.LinePlot(x="step", y="loss", title="Loss", elem_id="loss")
            samples = gr.Gallery(label="Samples", columns=4, elem_id="samples")

    def train_for(
        request: gr.Request, videos: str, output: str, model: str, steps: float, batch: float, rate: float = RATE
    ) -> Iterator[Seen]:
        """Trains as long as the tab is open."""
        with closing(train(videos, output, model, steps, batch, rate, folder)) as seen:
            for each in seen:
                if not visitors.wait(request):
                    return
                yield each

    click = start.click(visitors.come, queue=False, api_visibility="private")
    click = click.then(lambda: _buttons(True), None, [start, stop], queue=False, api_visibility="private")
    run = click.then(
        train_for,
        [videos, output, model, steps, batch, rate],
        [said, curve, samples, joint],
        api_name="train",
        show_progress="hidden",
        concurrency_limit=1,
        concurrency_id="device",
    )
    run.then(lambda: _buttons(False), None, [start, stop], queue=False, api_visibility="private")
    stop.click(
        lambda: ("Stopped; the same folders go on.", *_buttons(False)),
        None,
        [said, start, stop],
        cancels=[run],
        queue=False,
        api_visibility="private",
    )


def _buttons(at_work: bool) -> tuple[Any, Any]:
    """Train and Stop."""
    return gr.update(interactive=not at_work), gr.update(interactive=at_work)


def train(
    videos: str, output: str, model: str, steps: float, batch: float, rate: float, shown: Path
) -> Generator[Seen, None, None]:
    """Caches the videos and trains on them, and yields what is to be seen. Ends both when it is closed.

    shown: the page's own folder; it shows no files of others.
    """
    if not videos.strip() or not Path(videos).is_dir():
        raise gr.Error(f"there is no folder {videos!r}; name one with videos", print_exception=False)
    folder = Path(output.strip() or "run").absolute()
    cache, run = folder / "cache", folder / "train"
    samples = Path(tempfile.mkdtemp(dir=shown))
    try:
        yield "caching", None, [], gr.skip()
        for line in _lines(["cache", str(Path(videos).absolute()), str(cache), "--model", model]):
            yield line, None, [], gr.skip()
        clips = sum(len(shard.clips) for shard in read_shards(cache))
        held_out = max(2, min(MOST_HELD_OUT, clips // 4))
        settings = {
            "model": model,
            "joint": "identity",
            "cache": cache,
            "output": run,
            "steps": int(steps),
            "batch": int(batch),
            "rate": rate,
            "held_out": held_out,
            "samples": min(MOST_SAMPLES, held_out),
            "log_every": min(20, max(1, int(steps) // 20)),
            "save_every": max(1, int(steps) // 4),
            "validate_every": max(1, int(steps) // 4),
            "tensorboard": "false",
        }
        words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        for line in _lines(["train", "a", *words]):
            yield line, losses(run / "log.jsonl"), copies(run / "samples", samples), gr.skip()
        yield line, losses(run / "log.jsonl"), copies(run / "samples", samples), str(run / "joint_blocks.safetensors")
    except InputError as error:
        raise gr.Error(str(error), print_exception=False) from error


def copies(samples: Path, target: Path) -> list[str]:
    """The clips in a training's `samples/STEP`, the newest first, copied to another folder unless they are there. Those
    that are being written are in a folder of their own until they are whole."""
    found = []
    for path in sorted(samples.glob("*/*.mp4"), reverse=True):
        copy = target / f"{path.parent.name}_{path.name}"
        if not copy.exists():
            shutil.copyfile(path, copy)
        found.append(str(copy))
    return found


def losses(log: Path) -> pd.DataFrame | None:
    """Steps and losses in a training's log; None where there is nothing yet."""
    if not log.is_file():
        return None
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    rows = [(record["step"], record["loss"]) for record in records if "loss" in record]
    return pd.DataFrame(rows, columns=["step", "loss"]) if rows else None


def _lines(arguments: Sequence[str]) -> Iterator[str]:
    """The last line that a command has said, now and then. Closing ends it as Ctrl-C does, which loses nothing; its
    last checkpoint is not waited for.

    Raises InputError with its error.
    """
    command = [sys.executable, "-m", "jointdit", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads any more would stop the command
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                time.sleep(LOOK)
                yield _last_line(said.fileno())
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        last = _last_line(said.fileno())
    if process.returncode:
        raise InputError(last.removeprefix("jointdit: error: "))
    yield last


def _last_line(file: int) -> str:
    """Of a file that another process writes: its place in it is not moved."""
    size = os.fstat(file).st_size
    text = os.pread(file, SHOWN, max(0, size - SHOWN)).decode(errors="replace")
    return ([line for line in text.replace("\r", "\n").splitlines() if line.strip()] or [""])[-1]
