"""Recordings decoded by threads, ahead of the device that encodes them; FFmpeg works outside Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
WORKERS = min(8, os.cpu_count() or 1)


def in_order(sources: Sequence[Iterator[Item]], workers: int, size: int) -> Generator[Iterator[list[Item]], None, None]:
    """The items of each source in lists of `size`, source after source, whatever `workers` there are.

    That many threads draw from as many sources, each one list ahead of what was asked for, so that no more than
    `workers` + 1 lists are in memory. What a source raises is raised where its list is asked for. 0: no threads.
    """

    def draw(source: Iterator[Item]) -> list[Item]:
        return list(islice(source, size))

    if not workers:
        yield from (iter(partial(draw, source), []) for source in sources)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def lists(source: Iterator[Item], drawn: Future[list[Item]]) -> Iterator[list[Item]]:
        while items := drawn.result():
            drawn = pool.submit(draw, source)
            yield items

    try:
        coming = iter(sources)
        waiting = deque((source, pool.submit(draw, source)) for source in islice(coming, workers))
        while waiting:
            current = waiting.popleft()
            waiting.extend((source, pool.submit(draw, source)) for source in islice(coming, 1))
            yield lists(*current)
    finally:
        pool.shutdown(cancel_futures=True)
