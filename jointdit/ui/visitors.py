"""Who has closed the page.

Gradio ends the work of a tab that listens to its queue. What is clicked in a tab that is closed before it listens would
be done to its end, and others would wait for it.
"""

from __future__ import annotations

from collections import OrderedDict

import gradio as gr

MOST = 10_000  # tabs that are remembered


class Visitors:
    """Tabs that were closed, by their sessions."""

    def __init__(self) -> None:
        self._gone: OrderedDict[str | None, None] = OrderedDict()

    def leave(self, request: gr.Request) -> None:
        """A tab was closed, or its connection lost."""
        self._gone[request.session_hash] = None
        if len(self._gone) > MOST:
            self._gone.popitem(last=False)

    def come(self, request: gr.Request) -> None:
        """Something is clicked in a tab: a lost connection is there again."""
        self._gone.pop(request.session_hash, None)

    def wait(self, request: gr.Request) -> bool:
        """Whether the tab that asked is still open."""
        return request.session_hash not in self._gone
