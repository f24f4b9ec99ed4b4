"""What the page asks for, as options of `jointdit generate`; and the clip and the command that follow."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..cli.generate import SAMPLE
from ..cli.jobs import Job
from ..cli.making import Maker, check_given, set_up
from ..cli.models import check_model, choose_device, load_model
from ..cli.settings import guidance_options, memory_settings
from ..errors import InputError
from ..media import Clip, read_image
from ..media.loudness import check_loudness, with_gain, with_loudness
from ..options import MEMORY, SPEED
from ..pipeline import JointDiTPipeline, LongClip
from ..synthetic.textures import procedural_picture
from .work import Report, Step

# What the model that is loaded depends on.
LOADED = ("model", "video_expert", "audio_expert", "expert_frames", "joint", "adapters", "video_lora", "lora_strength")
LOADED += ("audio_heads", "dtype")
LOADED += tuple(each.key for each in (*MEMORY, *SPEED))
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
        key = tuple(str(options[name]) for name in LOADED)
        if self._pipe is None or key != self._key:
            self._pipe, self._key = None, None  # the old one makes room first
            pipe = load_model(options, getattr(torch, options["dtype"] or "float32"))
            self._pipe, self._key = set_up(pipe, options, self.device), key
        return self._pipe

    def make(self, options: Mapping[str, Any], report: Report) -> tuple[Clip, Maker]:
        """The clip that `jointdit generate` makes with these options, and what made it. options: all of them, by their
        names in Python, with a seed. Raises InputError for what cannot be used."""
        with self._busy:
            return self._make(options, report)

    def _make(self, options: Mapping[str, Any], report: Report) -> tuple[Clip, Maker]:
        check(options)
        report(Step("load", 0, 1))
        maker = Maker(self.pipe(options), options)
        report(Step("load", 1, 1))
        picture = options["image"][0] if options["image"] else None
        job = Job(picture, options["prompt"], options["seed"], Path("clip.mp4"))
        stage = ("sample", 0, 1)

        def remember(name: str, done: int, total: int) -> None:
            nonlocal stage
            stage = (name, done, total)
            report(Step(name, done, total))

        pixels = read_image(picture) if picture else None
        clip = maker.one(job, pixels, remember, lambda frames: report(Step(*stage, frames)))
        return _as_loud(clip.read() if isinstance(clip, LongClip) else clip, options), maker


def _as_loud(clip: Clip, options: Mapping[str, Any]) -> Clip:
    if options["gain"] is not None:
        return replace(clip, audio=with_gain(clip.audio, options["gain"]))
    if options["loudness"] is not None:
        return replace(clip, audio=with_loudness(clip.audio, clip.sample_rate, options["loudness"]))
    return clip


def check(options: Mapping[str, Any]) -> None:
    """What can be checked before a model is loaded. Raises InputError."""
    if not (options["image"] or options["video"]):
        raise InputError("no picture is there; add one, or a video")
    if options["image"] and options["video"]:
        raise InputError("both a picture and a video are there; take one of them away")
    if options["audio"] and options["video"]:
        raise InputError("both a video and a sound are there, so nothing is left to make; take one of them away")
    if options["gain"] is not None and options["loudness"] is not None:
        raise InputError("both a gain and a loudness are given; take one of them away")
    if options["loudness"] is not None:
        check_loudness()
    check_given(options)
    check_model(options)
    guidance_options(options)
    memory_settings(options)


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


def command_line(texts: Mapping[str, str], output: str) -> str:
    """The command that makes the same clip. texts: by option, with the files as the user knows them."""
    words = [sys.executable, "-m", "jointdit", "generate"]
    words += [texts["image"]] if "image" in texts else []
    for name, text in texts.items():
        if name == "image":
            continue
        if text == "true":
            words.append(f"--{name}")
        else:
            words += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return shlex.join([*words, "-o", output])
