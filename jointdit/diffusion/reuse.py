"""Which evaluations of the model keep what the depth of the video expert found in an earlier one.

From step to step its deep features change little (DeepCache, 2312.00858). An evaluation that reuses them runs the last
layers of the video expert's last up block and what those take of In, and the whole audio expert, whose Joint Blocks
attend to the video's keys and values as they were in the latest full evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError

LONGEST = 1000  # evaluations of one run
MOST_LAYERS = 16  # of a block of any model


@dataclass(frozen=True)
class Reuse:
    """A schedule. The first evaluation is full, and so is one after which guidance needs other predictions.

    every: of so many evaluations at least one is full; 1 is all of them, exactly. A step is one evaluation, and two
    with `heun`.
    moved: an evaluation is also full if what goes deeper into the video expert than `layers` has moved by more than
    this since the latest full one: mean absolute difference, relative to the mean absolute value (as in TeaCache,
    2411.19108). None does not look.
    layers: of the video expert's last up block, so many layers run anew in every evaluation, each with its skip from
    In: 1 is the last one on what `conv_in` gives. None is all, with the whole first down block. A model refuses more
    than it has (`VideoExpert.cut`).
    Raises InputError for values out of range.
    """

    every: int = 2
    moved: float | None = None
    layers: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.every <= LONGEST:
            raise InputError(f"reuse {self.every}: give a whole number from 1 (every evaluation is full) to {LONGEST}")
        if self.moved is not None and not self.moved >= 0:
            raise InputError(f"moved {self.moved}: give 0 or more, for example 0.2")
        if self.layers is not None and not 1 <= self.layers <= MOST_LAYERS:
            raise InputError(f"reuse layers {self.layers}: give a whole number from 1 to {MOST_LAYERS}")

    def suffices(self, age: int, before: Tensor | None, now: Tensor | None) -> bool:
        """Whether to reuse. age: evaluations since the full one, without this one.    before, now: what went deeper
        into the video expert then, and would now; not needed where `moved` is None."""
        if age + 1 >= self.every:
            return False
        if self.moved is None:
            return True
        assert before is not None and now is not None
        return bool((now - before).abs().mean() <= self.moved * before.abs().mean())
