"""A process without a network: whoever opens a connection or asks for an address is refused, and noted."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

HERE = "127.0.0.1"


@contextmanager
def no_network(but_here: bool = False) -> Iterator[list[object]]:
    """Every connection fails in this block, or `but_here` every one to another machine. Gives what was tried."""
    tried: list[object] = []

    def refusing(original: Any) -> Any:
        def refuse(*arguments: Any, **options: Any) -> Any:
            if but_here and any(HERE in argument[:1] for argument in arguments if isinstance(argument, tuple)):
                return original(*arguments, **options)
            if but_here and arguments[0] == HERE:
                return original(*arguments, **options)
            tried.append(arguments[-1])
            raise OSError("there is no network in this test")

        return refuse

    with pytest.MonkeyPatch.context() as patches:
        for name in ("connect", "connect_ex", "sendto"):
            patches.setattr(socket.socket, name, refusing(getattr(socket.socket, name)))
        patches.setattr(socket, "getaddrinfo", refusing(socket.getaddrinfo))
        yield tried


@pytest.fixture
def offline() -> Iterator[list[object]]:
    """Every connection of the test fails. The list has what was tried; at the end it must be empty."""
    with no_network() as tried:
        yield tried
