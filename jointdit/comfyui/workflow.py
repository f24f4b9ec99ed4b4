"""Workflows of ComfyUI as data: the page's format, the API's, and a user's changes to one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..checked import checked, fit, parse_json, placed, read_text
from ..errors import InputError, in_one_line

Graph = dict[str, dict[str, Any]]

NOTES = {"Note", "MarkdownNote"}
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize"}  # the page's own value behind a seed
BUTTONS = ("IMAGEUPLOAD", "AUDIOUPLOAD", "AUDIO_UI")
# The stock nodes that load a file from the server's input folder, and the widget with its name.
LOADERS = {"image": ("LoadImage", "image"), "video": ("LoadVideo", "file"), "audio": ("LoadAudio", "audio")}
MUTED, BYPASSED = 2, 4
SHOWN = 100  # characters of what was given that a message repeats


@dataclass(frozen=True)
class PageInput:
    """An input as the page saves it. widget: whatever, if it has one. link: a number of `links`."""

    name: str
    type: Any = ""
    link: int | None = None
    widget: Any = None


@dataclass(frozen=True)
class PageNode:
    """A node as the page saves it."""

    id: int | str
    type: str
    mode: int = 0
    inputs: list[PageInput] | None = None
    widgets_values: list[Any] | dict[str, Any] | None = None
    title: str | None = None


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

    Widget values stand in the order of the inputs that have a widget; ComfyUI's page stores them so since 1.16.
    Raises InputError for what is of another shape.
    """
    links = [fit(tuple[int, int | str, int], _first_three(link), "links") for link in workflow["links"]]
    sources = {number: [str(node), slot] for number, node, slot in links}
    nodes = [checked(PageNode, node, only_known=False, key=f"nodes[{at}]") for at, node in enumerate(workflow["nodes"])]
    graph: Graph = {}
    for node in sorted(nodes, key=lambda node: (isinstance(node.id, str), node.id)):
        if node.type in NOTES or node.mode == MUTED:
            continue
        named = f"node {in_one_line(node.id, 20)} ({in_one_line(node.type, 60)})"
        if node.mode == BYPASSED:
            raise InputError(f"{named} is bypassed; use Export (API) on the page")
        if isinstance(node.widgets_values, dict):
            raise InputError(f"{named} keeps its values by name; use Export (API) on the page")
        inputs: dict[str, Any] = {}
        values = _widget_values(node.widgets_values or [])
        for each in node.inputs or []:
            value = next(values, None) if each.widget is not None else None
            if each.link is not None:
                if each.link not in sources:
                    raise InputError(f"{named}: its link {each.link} is missing; save the workflow again")
                inputs[each.name] = sources[each.link]
            elif each.widget is not None and each.type not in BUTTONS:
                inputs[each.name] = value
        title = node.type if node.title is None else node.title
        graph[str(node.id)] = {"class_type": node.type, "inputs": inputs, "_meta": {"title": title}}
    return graph


def _first_three(link: Any) -> Any:
    return link[:3] if isinstance(link, list) else link


def _widget_values(values: list[Any]) -> Iterator[Any]:
    after_number = False
    for value in values:
        if not (after_number and isinstance(value, str) and value in AFTER_GENERATE):
            yield value
        after_number = isinstance(value, int)


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
