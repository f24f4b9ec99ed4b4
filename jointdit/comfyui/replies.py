"""What ComfyUI answers, as far as it is read here; what else is in its replies is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from ..checked import Between, checked, parse_json
from ..errors import InputError

T = TypeVar("T")
Name = Annotated[str, Between(1, 255)]
Amount = Annotated[float, Between(0, 1e12)]


@dataclass(frozen=True)
class Uploaded:
    """A file in the server's input folder."""

    name: Name
    subfolder: Annotated[str, Between(0, 255)] = ""

    @property
    def path(self) -> str:
        return f"{self.subfolder}/{self.name}" if self.subfolder else self.name


@dataclass(frozen=True)
class Problem:
    """Why an input of a node is refused."""

    message: str = ""
    details: str | None = ""


@dataclass(frozen=True)
class RefusedNode:
    errors: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Queued:
    """The answer to a graph that is run, or to one that is not."""

    prompt_id: Annotated[str, Between(1, 100)] | None = None
    node_errors: dict[str, RefusedNode] | list[Any] | None = None  # an empty list where there are none
    error: Problem | str | None = None

    @property
    def refused_nodes(self) -> dict[str, RefusedNode]:
        return self.node_errors if isinstance(self.node_errors, dict) else {}


@dataclass(frozen=True)
class Queue:
    """Jobs that run and that wait; each is a list whose second entry is its name."""

    queue_running: list[list[Any]] = field(default_factory=list)
    queue_pending: list[list[Any]] = field(default_factory=list)

    def has(self, job: str) -> bool:
        return any(entry[1:2] == [job] for entry in (*self.queue_running, *self.queue_pending))


@dataclass(frozen=True)
class Progress:
    node: str | None = None
    value: Amount = 0.0
    max: Amount = 0.0


@dataclass(frozen=True)
class Failure:
    """Why a node failed while it ran."""

    node_id: str | int = ""
    exception_type: str = ""
    exception_message: str = ""


@dataclass(frozen=True)
class Status:
    messages: list[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Finished:
    """What the history has of a job: how it ended, and the outputs by node."""

    status: Status
    outputs: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class SavedFile:
    filename: str
    subfolder: Annotated[str, Between(0, 1000)] = ""
    type: str = ""


def read(kind: type[T], text: bytes, place: str) -> T:
    """A reply as one of the above. Raises InputError that names the place, where it is none."""
    return fitting(kind, read_object(text, place), place)


def read_object(text: bytes, place: str) -> dict[str, Any]:
    """A reply that is a JSON object. Servers write NaN in theirs, for inputs that always change."""
    try:
        found = parse_json(text or b"{}", only_finite=False)
    except InputError as error:
        raise InputError(f"{place}: does not answer as ComfyUI does ({error}); is another server there?") from error
    if not isinstance(found, dict):
        raise InputError(f"{place}: does not answer as ComfyUI does; is another server there?")
    return found


def fitting(kind: type[T], found: object, place: str) -> T:
    """A part of a reply as one of the above."""
    try:
        return checked(kind, found, only_known=False)
    except InputError as error:
        raise InputError(f"{place}: does not answer as ComfyUI does ({error}); is another server there?") from error
