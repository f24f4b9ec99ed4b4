"""Workflows of ComfyUI as data: the page's format, the API's, and a user's changes to one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..checked import checked, parse_json, placed, read_text
from ..errors import InputError, in_one_line
from .page import Source, flat_nodes

Graph = dict[str, dict[str, Any]]

# The stock nodes that load a file from the server's input folder, and the widget with its name.
LOADERS = {"image": ("LoadImage", "image"), "video": ("LoadVideo", "file"), "audio": ("LoadAudio", "audio")}
SHOWN = 100  # characters of what was given that a message repeats


@dataclass(frozen=True)
class Meta:
    title: str | None = None


@dataclass(frozen=True)
class ApiNode:
    """A node in the API's format."""

    class_type: str
    inputs: dict[str, Any]
    _meta: Meta | None = None


def read_workflow(path: str | PathLike[str]) -> Graph:
    """The API graph of a file in either format. Raises InputError that names the file, for one that is none."""
    text = read_text(Path(path))
    with placed(path):
        data = parse_json(text, only_finite=False)
        if isinstance(data, dict) and all(isinstance(data.get(name), list) for name in ("nodes", "links")):
            return api_format(data)
        if not isinstance(data, dict) or not data or not all(isinstance(node, dict) for node in data.values()):
            raise InputError("not a ComfyUI workflow; save one with Save or Export (API)")
        for identity, node in data.items():
            try:
                checked(ApiNode, node, only_known=False, key=f"node {identity[:20]}")
            except InputError as error:
                told = in_one_line(error)
                raise InputError(f"not a ComfyUI workflow ({told}); save one with Save or Export (API)") from error
        return data


def api_format(workflow: Mapping[str, Any]) -> Graph:
    """The page's format to the API's, without muted nodes, notes and what only the page knows.

    What is in a subgraph takes its place. Raises InputError for what is of another shape.
    """
    return {
        str(node.id): {
            "class_type": node.type,
            "inputs": {name: list(value) if isinstance(value, Source) else value for name, value in given.items()},
            "_meta": {"title": node.type if node.title is None else node.title},
        }
        for node, given in flat_nodes(workflow)
    }


def set_input(graph: Graph, assignment: str) -> None:
    """Changes a widget in place: "prompt=rain" wherever there is a prompt, "4.seed=7" or "Title.seed=7" in one node.

    The text becomes a number or a truth value where the widget has one. Raises InputError where there is no such
    widget.
    """
    name, equals, text = assignment.partition("=")
    found = [node for node in graph.values() if name in node["inputs"]]
    key = name
    if not found and "." in name:
        owner, _, key = name.partition(".")
        found = [
            node
            for identity, node in graph.items()
            if owner in (identity, node["class_type"], _given_title(node)) and key in node["inputs"]
        ]
    widgets = [node for node in found if not isinstance(node["inputs"][key], list)]
    if not equals or not widgets:
        known = {
            name for node in graph.values() for name, value in node["inputs"].items() if not isinstance(value, list)
        }
        names = in_one_line(", ".join(sorted(known)), 1000)
        raise InputError(f"--set {in_one_line(assignment, SHOWN)}: give NAME=VALUE with one of {names}")
    for node in widgets:
        node["inputs"][key] = _like(node["inputs"][key], text, assignment)


def _like(old: Any, text: str, assignment: str) -> Any:
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        value = type(old)(text) if isinstance(old, int | float) else text
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("no number of JSON")
        return value
    except (ValueError, KeyError) as error:
        raise InputError(f"--set {in_one_line(assignment, SHOWN)}: give a value like {json.dumps(old)}") from error


def set_file(graph: Graph, kind: str, name: str) -> None:
    """Has the graph load another file of the server's input folder, in place. kind: a key of `LOADERS`."""
    for node in loaders(graph, kind):
        node["inputs"][LOADERS[kind][1]] = name


def loaders(graph: Graph, kind: str) -> list[dict[str, Any]]:
    """The nodes that load a file of this kind. Raises InputError where there is none."""
    found = [node for node in graph.values() if node["class_type"] == LOADERS[kind][0]]
    if not found:
        raise InputError(f"--{kind}: the workflow has no Load {kind.capitalize()} node")
    return found


def title(graph: Graph, identity: str) -> str:
    """A node as a person finds it on the page."""
    node = graph.get(identity, {})
    name = _given_title(node) or node.get("class_type", "node")
    return f"{in_one_line(name, SHOWN)} (node {in_one_line(identity, 20)})"


def _given_title(node: Mapping[str, Any]) -> str | None:
    return (node.get("_meta") or {}).get("title")
