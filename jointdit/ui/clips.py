"""What the page asks for, as options of `jointdit generate`; and the clip, the command and the workflow that follow."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..cli.generate import SAMPLE
from ..cli.models import check_model, choose_device, load_model
from ..cli.settings import guidance_options, sampling_settings
from ..errors import InputError
from ..media import Clip, read_audio, read_clip, read_image
from ..pipeline import JointDiTPipeline
from ..synthetic.textures import procedural_picture
from .work import Report, Step

MODEL_KEYS = ("model", "video_expert", "audio_expert", "joint", "adapters", "memory", "dtype")
FILES = ("image", "video", "audio")
EXAMPLE_SIDE = 256  # pixels
# Prompts that the bundled model knows, with the number of the picture that is drawn for each; 0 is the project's own.
SUGGESTED = {
    "lightning strikes and thunder rolls": 0,
    "a red ball bounces on the floor": 5,
    "a hammer strikes": 13,
    "heavy rain": 6,
    "a siren wails": 1,
    "fireworks in the sky": 15,
}


class Studio:
    """Makes one clip after the other, also where one that nobody waits for any more has yet to end; the model that was
    used last stays loaded."""

    def __init__(self, device: str | None = None) -> None:
        self.device = choose_device(device)
        self._busy = threading.Lock()
        self._key: tuple[object, ...] | None = None
        self._pipe: JointDiTPipeline | None = None

    def pipe(self, options: Mapping[str, Any]) -> JointDiTPipeline:
        """The model that the options name, as `jointdit generate` loads it."""
        key = tuple(str(options.get(name)) for name in MODEL_KEYS)
        if self._pipe is None or key != self._key:
            self._pipe, self._key = None, None  # the old one makes room first
            named = {"model": None, "video_expert": None, "audio_expert": None, "expert_frames": None} | dict(options)
            check_model(named)
            pipe = load_model(named, getattr(torch, options.get("dtype") or "float32"))
            pipe.set_memory(options.get("memory") or "plain", self.device)
            self._pipe, self._key = pipe, key
        return self._pipe

    def make(self, options: Mapping[str, Any], report: Report) -> Clip:
        """The clip that `jointdit generate` makes with these options. Raises InputError for what cannot be used."""
        with self._busy:
            return self._make(options, report)

    def _make(self, options: Mapping[str, Any], report: Report) -> Clip:
        given = check_files(options)
        guidance = guidance_options(_complete(options))
        report(Step("load", 0, 1))
        pipe = self.pipe(options)
        report(Step("load", 1, 1))
        width, height = options.get("size") or (None, None)
        shape = pipe.shape(options.get("frames"), options.get("fps"), height, width)
        seconds = float(shape.seconds) + 1  # the frames of another rate do not end with the clip
        readers = {"image": read_image, "video": read_clip, "audio": read_audio}
        recordings = {
            name: readers[name](path, **({} if name == "image" else {"max_seconds": seconds}))
            for name, path in given.items()
        }
        stage = ("sample", 0, 1)

        def remember(name: str, done: int, total: int) -> None:
            nonlocal stage
            stage = (name, done, total)
            report(Step(name, done, total))

        return pipe(
            recordings.get("image"),
            options.get("prompt"),
            options.get("negative_prompt"),
            video=recordings.get("video"),
            audio=recordings.get("audio"),
            frames=options.get("frames"),
            fps=options.get("fps"),
            height=height,
            width=width,
            fit=options.get("fit") or "cover",
            settings=sampling_settings(_complete(options), pipe.guidance.changed(**guidance)),
            generator=torch.Generator().manual_seed(options["seed"]),
            callback=remember,
            preview=lambda frames: report(Step(*stage, frames)),
        )


def examples(folder: Path) -> list[list[str]]:
    """Pictures and prompts to begin with. The pictures are drawn into a folder."""
    rows = []
    for prompt, number in SUGGESTED.items():
        path = folder / f"example{number}.png" if number else SAMPLE
        if number:
            picture = procedural_picture(np.random.default_rng([18, number]), EXAMPLE_SIDE, EXAMPLE_SIDE)
            Image.fromarray(picture).save(path)
        rows.append([str(path), prompt])
    return rows


def check_files(options: Mapping[str, Any]) -> dict[str, Path]:
    """The files that are given, by kind."""
    given = {name: Path(options[name]) for name in FILES if options.get(name)}
    if not given.keys() & {"image", "video"}:
        raise InputError("no picture is there; add one, or a video")
    if {"image", "video"} <= given.keys():
        raise InputError("both a picture and a video are there; take one of them away")
    if {"audio", "video"} <= given.keys():
        raise InputError("both a video and a sound are there, so nothing is left to make; take one of them away")
    return given


def command_line(options: Mapping[str, Any], names: Mapping[str, str], output: str) -> str:
    """The command that makes the same clip. names: of the given files, as the user knows them."""
    words = [sys.executable, "-m", "jointdit", "generate"]
    if "image" in names:
        words.append(names["image"])
    for name, value in options.items():
        if name == "image" or value is None or value is False:
            continue
        flag = f"--{name.replace('_', '-')}"
        text = names.get(name) or ("x".join(map(str, value)) if name == "size" else str(value))
        words += [flag] if value is True else [flag, text]
    return shlex.join([*words, "-o", output])


def workflow(options: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The graph that makes the same clip in ComfyUI, in its API's format, for `jointdit run-workflow`."""
    width, height = options.get("size") or (0, 0)
    condition: dict[str, Any] = {
        "model": ["1", 0],
        "prompt": options.get("prompt") or "",
        "negative_prompt": options.get("negative_prompt") or "",
        "width": width,
        "height": height,
        "frames": options.get("frames") or 0,
        "fps": float(options.get("fps") or 0),
        "fit": options.get("fit") or "cover",
        "picture_seed": options["seed"],
    }
    sample: dict[str, Any] = {
        "model": ["1", 0],
        "conditions": ["2", 0],
        "seed": options["seed"],
        "steps": options.get("steps") or 0,
        "sampler": options.get("sampler") or "euler",
        "audio_substeps": options.get("audio_substeps") or 0,
        "audio_grid": "model's own",
        "video_temperature": -1.0,
    }
    graph = {
        "1": _node("LoadModel", model=options.get("model") or "tiny", precision="float32"),
        "2": _node("Condition", **condition),
        "3": _node("Sample", **sample),
        "4": _node("DecodeVideo", model=["1", 0], video=["3", 0], chunk_size=8, overlap=0),
        "5": _node("DecodeAudio", model=["1", 0], audio=["3", 1]),
        "6": _node("Mux", images=["4", 0], audio=["5", 0], fps=["2", 1]),
        "7": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["6", 0], "filename_prefix": "JointDiT", "format": "auto", "codec": "auto"},
        },
    }
    loaders = {"image": ("LoadImage", "image"), "video": ("LoadVideo", "file"), "audio": ("LoadAudio", "audio")}
    for number, (name, file) in enumerate(names.items(), start=8):
        kind, widget = loaders[name]
        graph[str(number)] = {"class_type": kind, "inputs": {widget: file}}
        graph["2"]["inputs"][name] = [str(number), 0]
    return json.dumps(graph, indent=2)


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": f"JointDiT{kind}", "inputs": inputs}


def _complete(options: Mapping[str, Any]) -> dict[str, Any]:
    """With None for every option of sampling that the page does not have."""
    names = ("guidance", "video_scale", "audio_scale", "joint_scale", "steps", "sampler", "audio_substeps")
    return dict.fromkeys((*names, "video_temperature", "fresh_noise", "sync")) | dict(options)
