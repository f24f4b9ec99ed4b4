"""The queue, as the nodes ask it what the running job says."""

from __future__ import annotations

import stand_in_record as record


class PromptQueue:
    def get_current_queue(self) -> tuple[list[tuple], list[tuple]]:
        return [(0, "job", {}, record.extra_data, [], {})], []


class PromptServer:
    instance: PromptServer

    def __init__(self) -> None:
        self.prompt_queue = PromptQueue()


PromptServer.instance = PromptServer()
