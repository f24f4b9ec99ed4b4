"""Which clips a step sees, and reading them while the device computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from .cache import CachedClips, LatentCache, join_clips
from .seeds import generator_of

AHEAD = 2  # steps that are read before they are asked for


class EpochOrder:
    """Every epoch goes through the clips in an order of its own, which follows from the seed and the epoch.

    clips: their numbers in the cache.    batch: clips of a step, of all processes together.
    """

    def __init__(self, clips: Sequence[int], batch: int, seed: int) -> None:
        self.clips, self.batch, self.seed = clips, batch, seed
        self._orders: dict[int, Tensor] = {}  # of the epochs that the last step was in

    def numbers(self, step: int) -> list[int]:
        """The clips of a step [batch]."""
        places = [divmod(step * self.batch + index, len(self.clips)) for index in range(self.batch)]
        epochs = {epoch for epoch, _ in places}
        self._orders = {epoch: self._order(epoch) for epoch in epochs}
        return [self.clips[int(self._orders[epoch][place])] for epoch, place in places]

    def _order(self, epoch: int) -> Tensor:
        if epoch in self._orders:
            return self._orders[epoch]
        return torch.randperm(len(self.clips), generator=generator_of("epoch", self.seed, epoch))


class ReadAhead:
    """Clips of coming steps, read by a thread.

    share: the clips that this process sees at a step.    steps: there are no clips to read from this step on.
    What fails in reading is raised where the clips are asked for. The thread ends with the object.
    """

    def __init__(self, cache: LatentCache, share: Callable[[int], list[int]], steps: int) -> None:
        self.cache, self.share, self.steps = cache, share, steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._coming: dict[int, Future[dict[int, CachedClips]]] = {}

    def batch(self, numbers: Sequence[int], step: int) -> CachedClips:
        """What `cache.batch` gives for some of the clips of this process at a step."""
        for passed in [each for each in self._coming if not step <= each <= step + AHEAD]:
            self._coming.pop(passed).cancel()
        for each in range(step, min(step + AHEAD + 1, self.steps)):
            if each not in self._coming:
                self._coming[each] = self._pool.submit(_read, self.cache, self.share(each))
        clips = self._coming[step].result()
        return join_clips([clips[number] for number in numbers])


def _read(cache: LatentCache, numbers: Sequence[int]) -> dict[int, CachedClips]:
    return {number: cache.read(number) for number in numbers}
