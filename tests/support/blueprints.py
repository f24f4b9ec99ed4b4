"""Writes the subgraph blueprint, one node for a whole workflow, from that workflow's page.

python tests/support/blueprints.py
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NAME = "Image to Sounding Video"
DESCRIPTION = "A picture becomes a short video with its own synchronized sound. Runs as it is, on a CPU too."
PATH = ROOT / "subgraphs" / f"{NAME}.json"
SOURCE = ROOT / "workflows" / "image_to_sounding_video.json"
OUTSIDE = {"MarkdownNote", "LoadImage", "SaveVideo"}
INPUTS = (
    ("JointDiTCondition", "image"),
    ("JointDiTCondition", "prompt"),
    ("JointDiTCondition", "negative_prompt"),
    ("JointDiTLoadModel", "model"),
    ("JointDiTCondition", "frames"),
    ("JointDiTSample", "steps"),
    ("JointDiTSample", "seed"),
)
OUTPUTS = (("JointDiTMux", "video"), ("JointDiTDecodeVideo", "images"), ("JointDiTDecodeAudio", "audio"))
ENTRY, EXIT = -10, -20  # ids of a subgraph's two sides
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize")  # the page's own value behind a seed


def blueprint() -> dict[str, Any]:
    """The page of a blueprint: one node with the inputs and outputs above, and the subgraph that it stands for."""
    page = json.loads(SOURCE.read_text(encoding="utf-8"))
    inside = {node["type"]: node for node in page["nodes"] if node["type"] not in OUTSIDE}
    kept = {node["id"] for node in inside.values()}
    links = [dict(zip(LINK, link, strict=True)) for link in page["links"] if {link[1], link[3]} <= kept]
    left, values, right = [], [], []
    for slot, (kind, name) in enumerate(INPUTS):
        target, at, socket = found(inside[kind], "inputs", name)
        if "widget" in socket:
            values.append(widget_values(target)[name])
        links.append(link(links, ENTRY, slot, target["id"], at, socket["type"]))
        left.append(side(name, socket, links))
    for slot, (kind, name) in enumerate(OUTPUTS):
        source, at, socket = found(inside[kind], "outputs", name)
        links.append(link(links, source["id"], at, EXIT, slot, socket["type"]))
        right.append(side(name, socket, links))
    for node in inside.values():
        for slot, socket in enumerate(node["inputs"]):
            into = [each["id"] for each in links if (each["target_id"], each["target_slot"]) == (node["id"], slot)]
            socket["link"] = into[0] if into else None
        for slot, socket in enumerate(node["outputs"]):
            out = [each["id"] for each in links if (each["origin_id"], each["origin_slot"]) == (node["id"], slot)]
            socket["links"] = out or None
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [outer(left, right, values)],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph(inside, links, left, right)]},
        "extra": {},
    }


def found(node: dict[str, Any], sockets: str, name: str) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """A node, the place of one of its sockets, and that socket."""
    ((at, socket),) = [(at, each) for at, each in enumerate(node[sockets]) if each["name"] == name]
    return node, at, socket


def widget_values(node: dict[str, Any]) -> dict[str, Any]:
    names = [each["name"] for each in node["inputs"] if "widget" in each]
    return dict(zip(names, (each for each in node["widgets_values"] if each not in AFTER_GENERATE), strict=True))


def link(links: list[dict[str, Any]], *ends: Any) -> dict[str, Any]:
    return dict(zip(LINK, (max(each["id"] for each in links) + 1, *ends), strict=True))


def side(name: str, socket: dict[str, Any], links: list[dict[str, Any]]) -> dict[str, Any]:
    """A socket of the subgraph itself, which the newest link joins to one inside."""
    return {"id": unique(name), "name": name, "type": socket["type"], "linkIds": [links[-1]["id"]], "pos": [0, 0]}


def outer(left: list[dict[str, Any]], right: list[dict[str, Any]], values: list[Any]) -> dict[str, Any]:
    widgets = [{} if each["type"] == "IMAGE" else {"widget": {"name": each["name"]}} for each in left]
    return {
        "id": 1,
        "type": unique(NAME),
        "pos": [0, 0],
        "size": [340, 400],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [
            {"name": each["name"], "type": each["type"], "link": None, **widget}
            for each, widget in zip(left, widgets, strict=True)
        ],
        "outputs": [{"name": each["name"], "type": each["type"], "links": None} for each in right],
        "properties": {},
        "widgets_values": values,
        "title": NAME,
    }


def subgraph(
    inside: dict[str, Any], links: list[dict[str, Any]], left: list[dict[str, Any]], right: list[dict[str, Any]]
) -> dict[str, Any]:
    xs, ys = zip(*(node["pos"] for node in inside.values()), strict=True)
    last_node, last_link = max(node["id"] for node in inside.values()), links[-1]["id"]
    return {
        "id": unique(NAME),
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": last_node, "lastLinkId": last_link, "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": NAME,
        "inputNode": {"id": ENTRY, "bounding": [min(xs) - 240, min(ys), 160, 40 + 20 * len(left)]},
        "outputNode": {"id": EXIT, "bounding": [max(xs) + 400, min(ys), 160, 40 + 20 * len(right)]},
        "inputs": left,
        "outputs": right,
        "widgets": [],
        "nodes": list(inside.values()),
        "groups": [],
        "links": links,
        "extra": {},
        "category": "JointDiT",
        "description": DESCRIPTION,
    }


def unique(name: str) -> str:
    """The same identity at every writing."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"jointdit/{NAME}/{name}"))


def encoded() -> str:
    return json.dumps(blueprint(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(encoded(), encoding="utf-8")
