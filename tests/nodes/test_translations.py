"""What the page shows of the nodes in other languages: complete, up to date, and read by a real ComfyUI."""

from __future__ import annotations

import re

import pytest
from translations import LANGUAGES, LOCALES, encoded, english, folder, table

EACH = pytest.mark.parametrize("language", LANGUAGES)


@EACH
def test_every_text_of_a_node_is_translated(language):
    for name, data in folder(language).items():
        written = (LOCALES / language / name).read_text(encoding="utf-8")
        assert written == encoded(data), "run python tests/support/translations.py"


def test_the_table_has_no_text_that_no_node_has_and_none_twice():
    used = set(texts(english()))
    assert set(table()) == used
    assert (LOCALES / "texts.toml").read_text(encoding="utf-8").count("[[text]]") == len(used)


@EACH
def test_a_translation_has_the_numbers_options_and_paths_of_its_original(language):
    for text, row in table().items():
        for exact in re.findall(r"--[\w-]+|[\w.*]+(?:/[\w.*]+)+\w|(?<![\w-])-?\d+(?:\.\d+)?", text):
            assert exact in row[language], text


@EACH
def test_a_translation_has_nothing_that_the_page_would_fill_in_or_split(language):
    for row in table().values():
        assert not re.search(r"[{}@|$]", row[language]), row


def texts(data):
    return [text for each in data.values() for text in (texts(each) if isinstance(each, dict) else [each])]


def test_the_server_gives_the_translations_to_the_page(comfyui):
    served = comfyui.json("/i18n")
    for language in LANGUAGES:
        files = folder(language)
        assert served[language]["nodeDefs"] == files["nodeDefs.json"]
        assert {key: served[language][key] for key in files["main.json"]} == files["main.json"]
