"""The experts under a real ComfyUI's memory manager: in part, whole, patched and away again."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from comfyui_process import COMFYUI, MISSING, PYTHON

SCRIPT = Path(__file__).parents[1] / "support" / "comfyui_memory.py"
KINDS = ("in parts", "eight bits in parts")
PARTS = {"video_unet", "audio_unet", "joint_blocks"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What ComfyUI's own Python finds."""
    if MISSING:
        pytest.skip(MISSING)
    command = [PYTHON, str(SCRIPT), str(COMFYUI), str(tmp_path_factory.mktemp("comfyui"))]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_sizes_that_comfyui_plans_with_are_the_counted_bytes(found, kind):
    sizes = found[kind]["sizes"]
    assert sizes.keys() == PARTS and all(planned == counted > 0 for planned, counted in sizes.values())


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_rest_elsewhere_give_the_same_bytes(found, kind):
    steps = {name: (loaded, casting, same) for name, loaded, casting, same in found[kind]["steps"]}
    total = sum(counted for _, counted in found[kind]["sizes"].values())
    loaded = {name: loaded / total for name, (loaded, *_) in steps.items()}
    assert all(same for *_, same in steps.values())
    assert 0.2 < loaded["30%"] < 0.3 and 0.6 < loaded["70%"] < 0.7  # never more than there is room for
    assert loaded["a quarter less"] < loaded["70%"] - 0.25 and loaded["whole"] == 1 and loaded["away"] == 0
    assert steps["30%"][1] > steps["70%"][1] > 100 and steps["whole"][1] < 10
    assert found[kind]["weights stay"] and set(found[kind]["in eight bits"]) == {kind != "in parts"}


def test_what_comfyui_patches_acts_where_layers_rest_and_leaves_nothing_behind(found):
    assert found["patched"] == {"changed": True, "in part as whole": True, "weights stay": True}


def test_a_gpu_holds_what_fits_and_every_operation_is_on_it(found):
    on_gpu = found["on a GPU"]
    assert all(said == counted > 0 for said, counted in on_gpu["loaded"].values())
    loaded = sum(counted for _, counted in on_gpu["loaded"].values())
    assert 0.4 * on_gpu["total"] < loaded < 0.5 * on_gpu["total"]  # there is room for a half
    assert on_gpu["made on"] == ["cuda", "cuda"] and on_gpu["weights stay"] and on_gpu["after"] == 0
