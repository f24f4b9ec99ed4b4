"""Schemas as data: the fields that ComfyUI 0.33 knows and no others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

COMMON = {"display_name", "optional", "tooltip", "advanced"}
NUMBER = {"default", "min", "max", "step", "control_after_generate"}


class Input:
    io_type = ""
    known: set[str] = set()

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


def Custom(io_type: str, known: set[str] = frozenset()) -> type:
    return type(
        io_type,
        (),
        {
            "Input": type("Input", (Input,), {"io_type": io_type, "known": set(known)}),
            "Output": type("Output", (Output,), {"io_type": io_type}),
        },
    )


Int = Custom("INT", NUMBER)
Float = Custom("FLOAT", NUMBER)
String = Custom("STRING", {"default", "multiline"})
Combo = Custom("COMBO", {"default", "options"})
DynamicCombo = Custom("COMFY_DYNAMICCOMBO_V3", {"options"})
Image, Audio, Video, Latent, Sigmas = (Custom(name) for name in ("IMAGE", "AUDIO", "VIDEO", "LATENT", "SIGMAS"))


@dataclass
class _Option:
    key: str
    inputs: list[Input]


DynamicCombo.Option = _Option


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


class ComfyNode:
    pass


class NodeOutput:
    def __init__(self, *args: Any) -> None:
        self.args = args
