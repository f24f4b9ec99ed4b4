"""Texts of others, for a line of ours."""

import pytest

from jointdit.errors import in_one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\r and\ttabs ", "two lines and tabs"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("caf\u00e9 \ud800", r"café \ud800"),
        (ValueError("broken"), "broken"),
        (KeyError(), "KeyError"),
        ("", ""),
    ],
)
def test_a_text_is_shown_on_one_line_and_no_terminal_acts_upon_it(text, line):
    assert in_one_line(text) == line


@pytest.mark.parametrize("longest", [10, 60, 1500])
def test_of_a_long_text_both_ends_are_shown(longest):
    line = in_one_line("begin " + "x" * 70_000 + " end", longest)
    assert line.startswith("begin ") and line.endswith("end") and " [...] " in line and len(line) <= longest + 7
