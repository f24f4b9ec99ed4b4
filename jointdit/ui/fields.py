"""Fields of the page that are options of `jointdit generate`: label, help, words and default come from its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..cli.generate import OPTIONS
from ..cli.options import OneOf, Option
from ..errors import InputError, in_one_line
from ..options import DECLARED

OWN = "the model's own"
SHOWN = 60  # characters of a wrong text that a message repeats
BY_NAME = {option.name: option for option in OPTIONS}
# Where the name of an option is no good label.
LABELS = {
    "fps": "Frames per second",
    "size": "Size, WIDTHxHEIGHT",
    "gain": "Gain, dB",
    "loudness": "Loudness, LUFS",
    "retake": "Retake, seconds A-B",
    "sync": "Sync strength",
    "joint": "Joint Block file",
    "video-lora": "LoRA of the video expert",
    "float8": "Eight-bit weights",
    "dtype": "Numbers to compute with",
}
# What an option is that is left out, where it is not the model's own or the default of its declaration.
LEFT_OUT = {
    "seed": "random",
    "prompt": "empty: the picture suggests it",
    "negative-prompt": "nothing",
    "gain": "as it is made",
    "loudness": "as it is made",
    "window": "what the model was made for",
    "overlap": "two fifths of a window",
    "retake": "nothing: all of the sound is made",
    "retake-only": "both",
    "video-scale-start": "as at the last frame",
    "guidance-interval": "always",
    "sync": "0",
    "sync-interval": "0:30",
    "video-expert": "none",
    "audio-expert": "none",
    "joint": "the model's own",
    "adapters": "none",
    "video-lora": "none",
    "lora-strength": "1",
    "expert-frames": "as the file's name tells",
    "audio-heads": "published",
    "dtype": "float32",
    "offload": "as it says above",
    "max-batch": "as it says above",
    "query-chunk": "as it says above",
    "decode-chunk": "as it says above",
    "video-pool": "1",
    "compile": "off",
}


@dataclass(frozen=True)
class Field:
    """An option and the part of the page that asks for it. read: checks its text, in place of the option's own."""

    option: Option
    part: gr.components.Component
    read: Callable[[str], object] | None = None

    def text(self, value: object) -> str | None:
        """What was given, as on the command line; None where it was left alone. Raises InputError with the label."""
        if self.option.flag:
            return "true" if value else None
        text = str(value if value is not None else "").strip()
        chosen = isinstance(self.part, gr.Radio | gr.Slider)
        if not text or (chosen and value == self.part.value):
            return None
        try:
            (self.read or self.option.read)(text)
        except ValueError as error:
            raise InputError(f"{label(self.option)} {in_one_line(text, SHOWN)}: {error}") from None
        return text


class Form:
    """The fields of a page, in their order."""

    def __init__(self) -> None:
        self.fields: dict[str, Field] = {}

    def add(self, *names: str, **options: Any) -> list[gr.components.Component]:
        """Fields for options, where the page is being built. options: of Gradio's components."""
        return [self.take(name, _part(BY_NAME[name], **options)) for name in names]

    def rows(self, *names: str, wide: int = 2) -> None:
        """Fields beside each other, as many as there is room for."""
        for first in range(0, len(names), wide):
            with gr.Row():
                self.add(*names[first : first + wide], min_width=140)

    def take(
        self, name: str, part: gr.components.Component, read: Callable[[str], object] | None = None
    ) -> gr.components.Component:
        """A part that asks for an option in its own way."""
        self.fields[name] = Field(BY_NAME[name], part, read)
        return part

    def texts(self, values: Sequence[object]) -> dict[str, str]:
        """What was given, by option. values: of the fields."""
        given = ((field, field.text(value)) for field, value in zip(self.fields.values(), values, strict=True))
        return {field.option.name: text for field, text in given if text is not None}

    @property
    def parts(self) -> list[gr.components.Component]:
        return [field.part for field in self.fields.values()]

    def defaults(self) -> Iterator[tuple[str, object]]:
        """Names in Python and values that the page opens with."""
        return ((field.option.key, field.part.value) for field in self.fields.values())


def _part(option: Option, **options: Any) -> gr.components.Component:
    said = {"label": label(option), "info": sentence(option.help), "elem_id": option.name, **options}
    none = left_out(option)
    if option.flag:
        return gr.Checkbox(value=False, **said)
    if isinstance(option.read, OneOf):
        words = option.read.choices
        return gr.Radio(list(words if none in words else (none, *words)), value=none, **said)
    return gr.Textbox(**{"value": "", "placeholder": none, **said})


def label(option: Option) -> str:
    return LABELS.get(option.name) or option.name.replace("-", " ").capitalize()


def left_out(option: Option) -> str:
    """What an option is that is left out."""
    declared = DECLARED.get(option.name)
    if declared is not None and declared.default is not None and option.name not in LEFT_OUT:
        return str(declared.default)
    return LEFT_OUT.get(option.name, OWN)


def sentence(help: str) -> str:
    return help[:1].upper() + help[1:]


def read_texts(texts: Mapping[str, str]) -> dict[str, Any]:
    """The options of `jointdit generate` by their names in Python, as these texts say; None for every other.

    Raises InputError for a text that is none of its option's values.
    """
    options: dict[str, Any] = {}
    for option in OPTIONS:
        text = texts.get(option.name)
        try:
            value = None if text is None else option.read(text)
        except ValueError as error:
            raise InputError(f"{option.shown} {in_one_line(text or '', SHOWN)}: {error}") from None
        options[option.key] = (() if text is None else (value,)) if option.many else value
    return options
