"""Workflows of ComfyUI as data: the page's format, the API's, and a user's changes to one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import InputError

Graph = dict[str, dict[str, Any]]

NOTES = {"Note", "MarkdownNote"}
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize"}  # the page's own value behind a seed
BUTTONS = {"IMAGEUPLOAD", "AUDIOUPLOAD", "AUDIO_UI"}
# The stock nodes that load a file from the server's input folder, and the widget with its name.
LOADERS = {"image": ("LoadImage", "image"), "video": ("LoadVideo", "file"), "audio": ("LoadAudio", "audio")}
MUTED, BYPASSED = 2, 4


def read_workflow(path: str | PathLike[str]) -> Graph:
    """The API graph of a file in either format. Raises InputError for a file that is none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    if isinstance(data, dict) and all(isinstance(data.get(name), list) for name in ("nodes", "links")):
        return api_format(data)
    if isinstance(data, dict) and data and all(_is_node(node) for node in data.values()):
        return data
    raise InputError(f"{path}: not a ComfyUI workflow; save one with Save or Export (API)")


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs"), dict)


def api_format(workflow: Mapping[str, Any]) -> Graph:
    """The page's format to the API's, without muted nodes, notes and what only the page knows.

    Widget values stand in the order of the inputs that have a widget; ComfyUI's page stores them so since 1.16.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph: Graph = {}
    for node in sorted(workflow["nodes"], key=lambda node: node["id"]):
        if node["type"] in NOTES or node.get("mode") == MUTED:
            continue
        if node.get("mode") == BYPASSED:
            raise InputError(f"node {node['id']} ({node['type']}) is bypassed; use Export (API) on the page")
        inputs = {}
        values = _widget_values(node)
        for each in node.get("inputs", []):
            value = next(values, None) if "widget" in each else None
            if each.get("link") is not None:
                inputs[each["name"]] = sources[each["link"]]
            elif "widget" in each and each["type"] not in BUTTONS:
                inputs[each["name"]] = value
        title = node.get("title", node["type"])
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}
    return graph


def _widget_values(node: Mapping[str, Any]) -> Iterator[Any]:
    after_number = False
    for value in node.get("widgets_values", []):
        if not (after_number and value in AFTER_GENERATE):
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
            if owner in (identity, node["class_type"], node.get("_meta", {}).get("title")) and key in node["inputs"]
        ]
    widgets = [node for node in found if not isinstance(node["inputs"][key], list)]
    if not equals or not widgets:
        known = {
            name for node in graph.values() for name, value in node["inputs"].items() if not isinstance(value, list)
        }
        raise InputError(f"--set {assignment}: give NAME=VALUE with one of {', '.join(sorted(known))}")
    for node in widgets:
        node["inputs"][key] = _like(node["inputs"][key], text, assignment)


def _like(old: Any, text: str, assignment: str) -> Any:
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(old)(text) if isinstance(old, int | float) else text
    except (ValueError, KeyError) as error:
        raise InputError(f"--set {assignment}: give a value like {json.dumps(old)}") from error


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
    return f"{node.get('_meta', {}).get('title') or node.get('class_type', 'node')} (node {identity})"
