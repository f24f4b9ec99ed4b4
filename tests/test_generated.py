"""Generated input: whatever comes in, there is a result or one line, in time and without a network.

A few cases of each kind, the same ones each time; `tests/benchmarks/generated_cases.py` runs them for as long as asked.
"""

from __future__ import annotations

import argparse
import math

import pytest
from generated import KINDS, fails_well
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jointdit.cli import cache, evaluate, generate, run_workflow, synth
from jointdit.cli.options import InRange, Option, read_options
from jointdit.comfyui import client
from jointdit.errors import InputError

CASES = {"model folders": 12, "Joint Block files": 25, "TOML files": 60, "workflows": 40, "replies": 25}


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_result_or_one_line(kind, tmp_path, request, monkeypatch):
    for name in ("TIMEOUT", "BUSY", "QUIET"):
        monkeypatch.setattr(client, name, 2.0)
    tried = [] if kind == "replies" else request.getfixturevalue("offline")

    @settings(
        max_examples=CASES[kind],
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        fails_well(data.draw(KINDS[kind](tmp_path)))

    run()
    assert tried == []


COMMANDS = {"generate": generate, "cache": cache, "evaluate": evaluate, "run-workflow": run_workflow, "synth": synth}


def options_with_ranges() -> dict[str, Option]:
    """Every option of every command that reads a number in a range."""
    options = {
        f"{command} --{option.name}": option
        for command, module in COMMANDS.items()
        for option in getattr(module, "OPTIONS", ()) or getattr(module, "LIMITS", ())
    }
    return {name: option for name, option in options.items() if isinstance(option.read, InRange)}


RANGES = options_with_ranges()


def accepts(option: Option, text: str) -> bool:
    try:
        value = read_options([option], argparse.Namespace(**{option.key: text}))[option.key]
    except InputError as error:
        assert option.shown in str(error) and "\n" not in str(error) and len(str(error)) < 300
        return False
    assert math.isfinite(value)
    return True


@pytest.mark.parametrize("name", RANGES)
def test_a_number_is_taken_up_to_both_ends_of_its_range_and_no_further(name):
    option = RANGES[name]
    reads = option.read
    assert isinstance(reads, InRange)
    lowest, highest = reads.lowest, reads.highest
    if reads.kind is int:
        outside = [lowest - 1, highest + 1, lowest + 0.5]
    else:
        outside = [math.nextafter(lowest, -math.inf), math.nextafter(highest, math.inf)]
    assert accepts(option, str(lowest)) and accepts(option, str(highest))
    for text in (*map(repr, outside), "nan", "inf", "-inf", "", " ", "1e999", "9" * 5000, "0x10", "\ud800", "1\n2"):
        assert not accepts(option, text), text


def test_there_are_ranges_to_test():
    assert len(RANGES) > 20
