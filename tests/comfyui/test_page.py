"""Subgraphs of the page's format, put in their place."""

from __future__ import annotations

import copy

import pytest

from jointdit import InputError
from jointdit.comfyui.workflow import api_format

# A source whose picture goes through two subgraphs, one inside the other, into a sink; "times" is a widget of the
# innermost node that both show outside.
INNER = {
    "id": "inner",
    "inputs": [{"name": "picture", "type": "IMAGE"}, {"name": "times", "type": "INT"}],
    "nodes": [
        {
            "id": 5,
            "type": "Repeat",
            "inputs": [
                {"name": "image", "type": "IMAGE", "link": 1},
                {"name": "amount", "type": "INT", "link": 2, "widget": {"name": "amount"}},
                {"name": "seed", "type": "INT", "link": None, "widget": {"name": "seed"}},
            ],
            "widgets_values": [1, 7, "randomize"],
            "title": "Again",
        }
    ],
    "links": [
        {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 5, "target_slot": 0},
        {"id": 2, "origin_id": -10, "origin_slot": 1, "target_id": 5, "target_slot": 1},
        {"id": 3, "origin_id": 5, "origin_slot": 0, "target_id": -20, "target_slot": 0},
    ],
}
OUTER = {
    "id": "outer",
    "inputs": [{"name": "picture", "type": "IMAGE"}, {"name": "times", "type": "INT"}],
    "nodes": [
        {
            "id": 5,
            "type": "inner",
            "inputs": [
                {"name": "picture", "type": "IMAGE", "link": 1},
                {"name": "times", "type": "INT", "link": 2, "widget": {"name": "times"}},
            ],
            "widgets_values": [2],
        }
    ],
    "links": [
        {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 5, "target_slot": 0},
        {"id": 2, "origin_id": -10, "origin_slot": 1, "target_id": 5, "target_slot": 1},
        {"id": 3, "origin_id": 5, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        {"id": 4, "origin_id": -10, "origin_slot": 0, "target_id": -20, "target_slot": 1},
    ],
}
PAGE = {
    "nodes": [
        {"id": 1, "type": "Load", "inputs": []},
        {
            "id": 2,
            "type": "outer",
            "inputs": [
                {"name": "picture", "type": "IMAGE", "link": 1},
                {"name": "times", "type": "INT", "link": None, "widget": {"name": "times"}},
            ],
            "widgets_values": [3],
        },
        {
            "id": 3,
            "type": "Save",
            "inputs": [{"name": "images", "link": 2}, {"name": "first", "link": 3}],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"], [3, 2, 1, 3, 1, "IMAGE"]],
    "definitions": {"subgraphs": [INNER, OUTER]},
}


@pytest.fixture
def page():
    return copy.deepcopy(PAGE)


def inputs(page):
    return {identity: node["inputs"] for identity, node in api_format(page).items()}


def test_what_is_in_a_subgraph_takes_its_place_and_gets_what_is_set_outside(page):
    again = {"image": ["1", 0], "amount": 3, "seed": 7}
    assert inputs(page) == {"1": {}, "3": {"images": ["2:5:5", 0], "first": ["1", 0]}, "2:5:5": again}
    assert api_format(page)["2:5:5"]["_meta"] == {"title": "Again"}


@pytest.mark.parametrize(("outside", "amount"), [([], 2), ([0], 0)])
def test_the_nearest_value_from_outside_holds(page, outside, amount):
    page["nodes"][1]["widgets_values"] = outside
    assert inputs(page)["2:5:5"]["amount"] == amount


def test_a_value_that_is_shown_nowhere_outside_stays(page):
    page["definitions"]["subgraphs"][1]["nodes"][0]["widgets_values"] = []  # as the page wrote it until 2025
    page["nodes"][1]["widgets_values"] = []
    assert inputs(page)["2:5:5"]["amount"] == 1


def test_what_is_not_connected_outside_is_not_inside(page):
    page["nodes"][1]["inputs"][0]["link"] = None
    assert inputs(page) == {"1": {}, "3": {"images": ["2:5:5", 0]}, "2:5:5": {"amount": 3, "seed": 7}}


def test_a_muted_subgraph_is_left_out_with_all_that_is_in_it(page):
    page["nodes"][1]["mode"] = 2
    assert list(inputs(page)) == ["1", "3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda page: page["definitions"]["subgraphs"][0]["nodes"][0].update(type="outer"), "inside more than"),
        (lambda page: page["definitions"]["subgraphs"][0]["nodes"][0].update(mode=4), r"2:5:5 \(Repeat\) is bypassed"),
        (lambda page: page["definitions"]["subgraphs"][0]["links"][0].update(origin_slot=9), "no input 9"),
        (lambda page: page["definitions"]["subgraphs"][0].pop("links"), r"subgraphs\[0\].*links"),
        (lambda page: page["definitions"]["subgraphs"][0]["nodes"].extend(10_001 * INNER["nodes"]), "more than 10000"),
        (lambda page: page["links"].__setitem__(0, [1, 2, 1, 2, 0, "IMAGE"]), "its own input"),
    ],
    ids=["endless", "bypassed", "no-input", "no-links", "many", "circle"],
)
def test_a_page_that_cannot_be_is_refused(page, change, message):
    change(page)
    with pytest.raises(InputError, match=message):
        api_format(page)
