"""The page on training at scale: its tables are those of the log, and its launchers' lines parse."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from full_size import SIZES
from torch.distributed.run import get_args_parser
from training_memory import WAYS, hours_table, measure, table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training-at-scale.md").read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_log():
    log = json.loads((ROOT / "docs" / "logs" / "training_memory.json").read_text())
    assert log["ways"].keys() == WAYS.keys()
    assert table(log) in PAGE and hours_table(log) in PAGE


def lines():
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_the_launchers_take_their_lines(launcher):
    words = [shlex.split(line) for line in lines() if line.startswith(launcher)]
    assert len(words) == 2
    for each in words:
        if launcher == "torchrun":
            parsed = get_args_parser().parse_args(each[1:])
            assert parsed.module
        else:
            parsed = launch_command_parser().parse_args(each[2:])
        assert parsed.training_script == "jointdit" and parsed.training_script_args[:2] == ["train", "my.toml"]


def test_gradient_checkpointing_takes_less_and_computes_more():
    found = measure(SIZES["small"], WAYS["Stage A"])
    assert found["GB of a clip, checkpointing"] < 0.6 * found["GB of a clip, plain"]
    assert found["TFLOP, checkpointing"] > 1.2 * found["TFLOP, plain"]
