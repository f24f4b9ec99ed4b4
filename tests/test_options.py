"""One table of options, and surfaces that agree with it; what a surface lacks is listed here with its reason (the web
page's in tests/ui/test_fields.py)."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from comfy_pack import load_pack, nodes

from jointdit import Memory, SamplingSettings, Speed, SyncGuidance
from jointdit.cli import generate
from jointdit.diffusion.guidance import DEFAULTS, HIGHEST, JointCFG
from jointdit.diffusion.reuse import MOST_LAYERS, Reuse
from jointdit.diffusion.schedules import AudioGrid
from jointdit.errors import InputError
from jointdit.media.image import Fit
from jointdit.options import DECLARED, MEMORY, SCALE, SPEED, Choice
from jointdit.pipeline import JointDiTPipeline
from jointdit.pipeline.settings import SAMPLERS
from jointdit.runtime.memory import OFFLOADS, PRESETS

ROOT = Path(__file__).parents[1]
# Names in Python that are another on the command line.
RENAMED = {"guidance_interval": "interval", "guidance_rescale": "rescale", "guidance": "mode", "dtype": "precision"}
# What Python has and the table lacks, with the reason.
PYTHON_ONLY = {
    "sigmas": "a list of noise levels, which no text of a command is made for",
    "video_rescale": "a part of rescale, for a model's own defaults",
    "prompt_interval": "a part of interval, for a model's own defaults",
    "strength": "of SyncGuidance: the option sync",
}
# Nodes that have an option, by its name in Python.
NODES = {
    "JointDiTSample": "seed steps sampler audio_substeps audio_grid video_temperature fresh_noise sync reuse "
    "reuse_layers".split(),
    "JointDiTCondition": "prompt negative_prompt frames fps fit motion_bucket noise_augmentation window "
    "overlap".split(),
    "JointDiTJointCFG": ["rescale", "video_prompt_scale"],
    "JointDiTRetake": "prompt negative_prompt seed steps sampler".split(),
    "JointDiTLoadModel": ["precision"],
}
# Options that no node has, with the reason.
NODES_LACK = {
    "sync-interval": "the default suits models of these noise levels",
    "isolated": "for comparisons; joint_blocks at the identity is near to it",
    "joint-scale": "the two scales that it sets have a widget each",
    **dict.fromkeys(("gain", "loudness"), "ComfyUI's own nodes do it to any sound"),
    **{each.name: "ComfyUI's own memory manager decides" for each in MEMORY},
    **{each.name: "ComfyUI's own options and nodes decide" for each in SPEED},
}


@pytest.mark.parametrize("settings", [SamplingSettings, JointCFG, Memory, Speed, SyncGuidance])
def test_every_setting_of_the_library_is_an_option_or_says_why_not(settings) -> None:
    known = {each.key for each in DECLARED.values()} | set(RENAMED.values())
    assert {field.name for field in fields(settings)} - known <= PYTHON_ONLY.keys()


def test_every_option_is_one_of_the_library() -> None:
    python = {field.name for each in (SamplingSettings, JointCFG, Memory, Speed) for field in fields(each)}
    python |= set(inspect.signature(JointDiTPipeline.__call__).parameters)
    python |= set(inspect.signature(JointDiTPipeline.long).parameters)
    elsewhere = {"seed", "size", "memory", "expandable_segments"}  # a generator, two numbers, a preset, the environment
    elsewhere |= {"sync_interval", "reuse_layers"}  # fields of what another option makes
    elsewhere |= {"retake", "retake_only", "gain", "loudness", "precision"}  # of methods and functions of their own
    assert {RENAMED.get(key, key) for key in (each.key for each in DECLARED.values())} - python == elsewhere


def test_words_ranges_and_defaults_are_the_librarys() -> None:
    words = {name: each.kind.choices for name, each in DECLARED.items() if isinstance(each.kind, Choice)}
    assert set(words["sampler"]) == set(SAMPLERS) and set(words["audio-grid"]) == set(get_args(AudioGrid))
    assert set(words["guidance"]) == set(DEFAULTS) and set(words["fit"]) == set(get_args(Fit))
    assert set(words["memory"]) == set(PRESETS) and set(words["offload"]) == set(OFFLOADS)
    assert SCALE.highest == HIGHEST
    assert DECLARED["sampler"].default == SamplingSettings().sampler
    assert DECLARED["reuse-layers"].kind.highest == MOST_LAYERS and DECLARED["reuse-layers"].default == Reuse().layers
    assert DECLARED["sync-interval"].default == SyncGuidance().interval
    for name in ("video-temperature", "fresh-noise"):
        kind, key = DECLARED[name].kind, DECLARED[name].key
        SamplingSettings(**{key: kind.lowest}), SamplingSettings(**{key: kind.highest})
        with pytest.raises(InputError):
            SamplingSettings(**{key: kind.highest + 0.01})


def test_the_command_line_has_them_all_with_the_same_help() -> None:
    offered = {option.name: option.help for option in generate.OPTIONS}
    assert {name: offered.get(name) for name in DECLARED} == {name: each.help for name, each in DECLARED.items()}


def test_the_page_of_the_command_line_says_what_the_help_says() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    section = page.partition("\n## generate\n")[2].partition("\n## ")[0]
    for each in DECLARED.values():
        row = re.search(rf"^\| `--{each.name}[ `].*$", section, re.MULTILINE)
        assert row and row[0].split(" | ", 1)[1].startswith(each.help), each.name


def test_what_the_nodes_lack_is_known() -> None:
    load_pack()
    schema = {name: nodes()[name].define_schema() for name in NODES}
    widgets = {widget.id for each in schema.values() for widget in each.inputs}
    widgets |= {scale for scales in DEFAULTS.values() for scale in scales}  # of JointDiTJointCFG, by its mode
    other = {
        "size": "width",
        "guidance": "mode",
        "guidance-interval": "sigma_low",
        "guidance-rescale": "rescale",
        "retake": "start",
        "retake-only": "what",
        "dtype": "precision",
    }
    lacking = {name for name, each in DECLARED.items() if other.get(name, each.key) not in widgets}
    assert lacking <= NODES_LACK.keys()


@pytest.mark.parametrize("node", NODES)
def test_widgets_of_the_nodes_have_the_same_ranges(node) -> None:
    """A widget may go lower than the option: 0 or -1 stand for the model's own there."""
    load_pack()
    schema = nodes()[node].define_schema()
    widgets = {widget.id: widget for widget in schema.inputs}
    for key in NODES[node]:
        declared = next(each for each in DECLARED.values() if RENAMED.get(each.key, each.key) == key)
        widget = widgets[key]
        if isinstance(declared.kind, Choice):
            assert set(declared.kind.choices) <= set(widget.options)
        elif hasattr(declared.kind, "highest"):
            assert widget.max == declared.kind.highest, key
            assert widget.min in (declared.kind.lowest, 0, -1), key
