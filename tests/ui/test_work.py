"""Work beside the page: its steps, its result, its errors, and its end when nobody waits."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from jointdit.errors import InputError
from jointdit.ui.work import Cancelled, Done, Step, in_steps


def test_steps_come_before_what_was_made():
    def work(report):
        for done in range(3):
            report(Step("sample", done + 1, 3))
        return "clip"

    *steps, last = in_steps(work)
    assert last == Done("clip") and all(isinstance(step, Step) for step in steps)


def test_a_picture_is_not_lost_to_a_later_step_without_one():
    go = threading.Event()

    def work(report):
        report(Step("sample", 1, 2, np.ones((1, 2, 2, 3), np.uint8)))
        report(Step("decode", 0, 1))
        go.wait(10)
        return None

    steps = in_steps(work)
    first = next(steps)
    while first.stage != "decode":
        first = next(steps)
    assert first.frames is not None
    go.set()
    assert list(steps)[-1] == Done(None)


def test_an_error_of_the_work_is_raised_where_it_is_waited_for():
    def work(report):
        raise InputError("no such picture")

    with pytest.raises(InputError, match="no such picture"):
        list(in_steps(work))


def test_work_that_nobody_waits_for_ends_at_its_next_report():
    ended = threading.Event()

    def work(report):
        try:
            while True:
                report(Step("sample", 1, 2))
        except Cancelled:
            ended.set()
            raise

    steps = in_steps(work)
    next(steps)
    steps.close()
    assert ended.wait(30)
