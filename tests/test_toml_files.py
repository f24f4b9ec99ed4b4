"""TOML files of options, as the command line and training read them."""

from __future__ import annotations

import pytest

from jointdit.errors import InputError
from jointdit.toml_files import path_beside, read_toml, refuse_unknown, toml_value


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"steps = ", "not valid TOML"), (b'prompt = "\xe9"', "not valid TOML")],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "options.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path}: {message}") as caught:
        read_toml(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_named_with_the_known_ones(tmp_path):
    path = tmp_path / "options.toml"
    path.write_text('steps = 3\ncolour = "red"\n')
    with pytest.raises(InputError, match="unknown option 'colour'; known: steps, seed"):
        refuse_unknown(path, read_toml(path), ("steps", "seed"))


def test_paths_are_relative_to_the_file_and_names_of_models_stay(tmp_path):
    path = tmp_path / "options.toml"
    assert path_beside(path, "clip.mp4", may_be_name=False) == str(tmp_path / "clip.mp4")
    assert path_beside(path, "tiny", may_be_name=True) == "tiny"
    (tmp_path / "tiny").mkdir()
    assert path_beside(path, "tiny", may_be_name=True) == str(tmp_path / "tiny")
    assert path_beside(path, "/models/svd", may_be_name=False) == "/models/svd"


def test_a_value_is_in_tomls_notation_or_a_plain_text():
    assert [toml_value(text) for text in ("3", "0.5", "true", '"a b"', "a b")] == [3, 0.5, True, "a b", "a b"]
