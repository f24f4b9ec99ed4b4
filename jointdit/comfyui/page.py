"""The format of ComfyUI's page: its nodes with their inputs, subgraphs replaced by what is in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..checked import checked, fit
from ..errors import InputError, in_one_line

NOTES = {"Note", "MarkdownNote"}
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize"}  # the page's own value behind a seed
BUTTONS = ("IMAGEUPLOAD", "AUDIOUPLOAD", "AUDIO_UI")
MUTED, BYPASSED = 2, 4
ENTRY, EXIT = "-10", "-20"  # what the links of a subgraph start and end at where they leave it
DEEPEST = 16  # subgraphs inside each other
LARGEST = 10_000  # nodes of a workflow


@dataclass(frozen=True)
class PageInput:
    """An input as the page saves it. widget: whatever, if it has one. link: of those beside its node."""

    name: str
    type: Any = ""
    link: int | str | None = None
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

    def __str__(self) -> str:
        return f"node {in_one_line(self.id, 20)} ({in_one_line(self.type, 60)})"


@dataclass(frozen=True)
class SubgraphLink:
    id: int | str
    origin_id: int | str
    origin_slot: int
    target_id: int | str
    target_slot: int


@dataclass(frozen=True)
class Subgraph:
    """What stands for a node whose type is its id. inputs: as they are called inside and outside."""

    id: str
    nodes: list[PageNode]
    links: list[SubgraphLink]
    inputs: list[PageInput]


class Source(NamedTuple):
    """An output that a link starts at."""

    node: str
    slot: int


class Page:
    """A page whose nodes are taken apart one after the other.

    links: where each starts; None where nothing comes in.
    values: what a subgraph's node has for a widget inside, by node and input.
    outputs: what an output of a subgraph's node stands for.
    """

    def __init__(self, workflow: Mapping[str, Any]) -> None:
        definitions = workflow.get("definitions")
        found = definitions.get("subgraphs") if isinstance(definitions, dict) else None
        listed = [
            checked(Subgraph, each, only_known=False, key=f"subgraphs[{at}]")
            for at, each in enumerate(found if isinstance(found, list) else [])
        ]
        self.subgraphs = {each.id: each for each in listed}
        starts = [fit(tuple[int, int | str, int], _first_three(link), "links") for link in workflow["links"]]
        self.links: dict[int | str, Source | None] = {number: Source(str(node), slot) for number, node, slot in starts}
        self.values: dict[tuple[str, str], Any] = {}
        self.outputs: dict[Source, Source | None] = {}

    def inputs(self, node: PageNode) -> dict[str, Any]:
        """What a node is given, by name: a `Source`, or the value of a widget.

        Values stand in the order of the inputs that have a widget; ComfyUI's page stores them so since 1.16.
        """
        if node.mode == BYPASSED:
            raise InputError(f"{node} is bypassed; use Export (API) on the page")
        if isinstance(node.widgets_values, dict):
            raise InputError(f"{node} keeps its values by name; use Export (API) on the page")
        given: dict[str, Any] = {}
        values = _widget_values(node.widgets_values or [])
        for each in node.inputs or []:
            value = next(values, None) if each.widget is not None else None
            if each.link is not None and each.link not in self.links:
                raise InputError(f"{node}: its link {each.link} is missing; save the workflow again")
            source = None if each.link is None else self.links[each.link]
            if source is not None:
                given[each.name] = source
            elif each.widget is not None and each.type not in BUTTONS:
                given[each.name] = self.values.get((str(node.id), each.name), value)
        return given

    def enter(self, node: PageNode, given: Mapping[str, Any]) -> list[PageNode]:
        """The nodes inside a subgraph's node, with the ids that the page gives them in its own API graphs."""
        inside, prefix = self.subgraphs[node.type], f"{node.id}:"
        if prefix.count(":") > DEEPEST:
            raise InputError(f"{node} is inside more than {DEEPEST} subgraphs")
        entries: dict[int | str, Any] = {}
        for link in inside.links:
            start: Any = Source(f"{prefix}{link.origin_id}", link.origin_slot)
            if str(link.origin_id) == ENTRY:
                if not 0 <= link.origin_slot < len(inside.inputs):
                    raise InputError(f"{node} has no input {link.origin_slot}; save the workflow again")
                start = entries[link.id] = given.get(inside.inputs[link.origin_slot].name)
            self.links[f"{prefix}{link.id}"] = start if isinstance(start, Source) else None
            if str(link.target_id) == EXIT:
                self.outputs[Source(str(node.id), link.target_slot)] = self.links[f"{prefix}{link.id}"]
        placed = []
        for each in inside.nodes:
            for socket in each.inputs or []:
                value = entries.get(socket.link) if socket.link is not None else None
                if value is not None and not isinstance(value, Source):
                    self.values[f"{prefix}{each.id}", socket.name] = value
            sockets = [_renamed(socket, prefix) for socket in each.inputs or []]
            placed.append(replace(each, id=f"{prefix}{each.id}", inputs=sockets))
        return placed

    def origin(self, source: Source | None) -> Source | None:
        """The output of a plain node that this one stands for."""
        seen = set()
        while source is not None and source in self.outputs:
            if source in seen:
                raise InputError(f"node {in_one_line(source.node, 20)} is its own input; save the workflow again")
            seen.add(source)
            source = self.outputs[source]
        return source


def flat_nodes(workflow: Mapping[str, Any]) -> Iterator[tuple[PageNode, dict[str, Any]]]:
    """The nodes that run, with what each is given by name: a `Source`, or the value of a widget.

    Notes and muted nodes are left out. Raises InputError for what is of another shape.
    """
    page = Page(workflow)
    nodes = [checked(PageNode, node, only_known=False, key=f"nodes[{at}]") for at, node in enumerate(workflow["nodes"])]
    waiting = deque(sorted(nodes, key=lambda node: (isinstance(node.id, str), node.id)))
    found = []
    while waiting:
        node = waiting.popleft()
        if node.type in NOTES or node.mode == MUTED:
            continue
        given = page.inputs(node)
        if node.type in page.subgraphs:
            waiting.extend(page.enter(node, given))
        else:
            found.append((node, given))
        if len(found) + len(waiting) > LARGEST:
            raise InputError(f"more than {LARGEST} nodes")
    for node, given in found:
        traced = {name: page.origin(value) if isinstance(value, Source) else value for name, value in given.items()}
        yield node, {name: value for name, value in traced.items() if value is not None or given[name] is None}


def _renamed(socket: PageInput, prefix: str) -> PageInput:
    return socket if socket.link is None else replace(socket, link=f"{prefix}{socket.link}")


def _first_three(link: Any) -> Any:
    return link[:3] if isinstance(link, list) else link


def _widget_values(values: list[Any]) -> Iterator[Any]:
    after_number = False
    for value in values:
        if not (after_number and isinstance(value, str) and value in AFTER_GENERATE):
            yield value
        after_number = isinstance(value, int)
