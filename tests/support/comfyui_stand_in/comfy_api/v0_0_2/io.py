"""Schemas as data: the fields that ComfyUI 0.33 knows and no others."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

COMMON = {"display_name", "optional", "tooltip", "advanced", "extra_dict"}
NUMBER = {"default", "min", "max", "step", "control_after_generate"}


class Input:
    io_type = ""
    known: Set[str] = frozenset()

    def __init__(self, id: str, **fields: Any) -> None:
        if unknown := fields.keys() - COMMON - self.known:
            raise TypeError(f"{id}: unknown fields {sorted(unknown)}")
        self.id, self.fields = id, fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.fields.get(name)


class Output:
    io_type = ""

    def __init__(self, id: str, display_name: str, tooltip: str, is_output_list: bool = False) -> None:
        self.id, self.display_name, self.tooltip, self.is_output_list = id, display_name, tooltip, is_output_list


_Input, _Output = Input, Output


class ComfyTypeIO:
    """A type that travels between nodes; each has an `Input` and an `Output` class of its own."""

    class Input(_Input): ...

    class Output(_Output): ...

    def __init_subclass__(cls, io_type: str, known: Set[str] = frozenset()) -> None:
        cls.Input = type("Input", (cls.Input,), {"io_type": io_type, "known": known})
        cls.Output = type("Output", (cls.Output,), {"io_type": io_type})


def Custom(io_type: str) -> type[ComfyTypeIO]:
    return type(io_type, (ComfyTypeIO,), {}, io_type=io_type)


class Int(ComfyTypeIO, io_type="INT", known=NUMBER): ...


class Float(ComfyTypeIO, io_type="FLOAT", known=NUMBER): ...


class Boolean(ComfyTypeIO, io_type="BOOLEAN", known={"default"}): ...


class String(ComfyTypeIO, io_type="STRING", known={"default", "multiline"}): ...


class Combo(ComfyTypeIO, io_type="COMBO", known={"default", "options"}): ...


class DynamicCombo(ComfyTypeIO, io_type="COMFY_DYNAMICCOMBO_V3", known={"options"}):
    @dataclass
    class Option:
        key: str
        inputs: list[Input]


class Image(ComfyTypeIO, io_type="IMAGE"): ...


class Audio(ComfyTypeIO, io_type="AUDIO"): ...


class Video(ComfyTypeIO, io_type="VIDEO"): ...


class Latent(ComfyTypeIO, io_type="LATENT"): ...


class Sigmas(ComfyTypeIO, io_type="SIGMAS"): ...


class Hidden(Enum):
    prompt = "PROMPT"


@dataclass
class HiddenHolder:
    prompt: Any = None


@dataclass
class Schema:
    node_id: str
    display_name: str
    category: str
    description: str
    search_aliases: list[str]
    inputs: list[Input]
    outputs: list[Output]
    is_experimental: bool = field(default=False)
    is_output_node: bool = field(default=False)
    hidden: list[Hidden] = field(default_factory=list)


class ComfyNode:
    hidden = HiddenHolder()


class NodeOutput:
    def __init__(self, *args: Any) -> None:
        self.args = args
