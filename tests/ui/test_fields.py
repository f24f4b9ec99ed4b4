"""The page has every option, or a reason why not, and takes label, help, words and range from the one table."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

gradio = pytest.importorskip("gradio", reason="no gradio; pip install '.[test]'")

from jointdit.cli.generate import OPTIONS  # noqa: E402
from jointdit.cli.options import OneOf  # noqa: E402
from jointdit.cli.ui import found_models  # noqa: E402
from jointdit.errors import InputError  # noqa: E402
from jointdit.options import DECLARED, Range  # noqa: E402
from jointdit.ui.clips import Studio  # noqa: E402
from jointdit.ui.fields import LEFT_OUT, Form  # noqa: E402
from jointdit.ui.page import build_page  # noqa: E402

# Options of `jointdit generate` that the page lacks, with the reason.
PAGE_LACKS = {
    "output": "the page keeps the clip, and its player downloads it",
    "format": "the player needs .mp4; the command that is shown writes the others",
    "wav": "always there",
    "silent-video": "the command that is shown writes it",
    "seeds": "the field Seed takes several, and Clips says how many",
    "prompts": "lists of files are for the command line",
    "batch": "clips are shown one by one",
    "device": "an option of jointdit ui",
    "expandable-segments": "CUDA reads it when the page starts, before anybody asks",
    "joint-scale": "the two scales that it sets have a field each",
}


@pytest.fixture(scope="module")
def endpoint():
    """The function behind the button, and the parts that it reads, by option."""
    page = build_page(Studio("cpu"), ["tiny"], trusted=True)
    event = next(each for each in page.fns.values() if each.api_name == "generate")
    names = [name for name in inspect.signature(event.fn).parameters if name != "request"]
    return dict(zip(names, event.inputs, strict=True))


def test_what_the_page_lacks_is_known(endpoint):
    lacking = {option.name for option in OPTIONS if option.key not in endpoint}
    assert lacking == PAGE_LACKS.keys()
    assert endpoint.keys() - {option.key for option in OPTIONS} == {"count", "clips"}


def test_help_and_words_are_the_tables(endpoint):
    for option in OPTIONS:
        part = endpoint.get(option.key)
        if part is None or option.name in ("image", "video", "audio", "prompt", "seed", "model"):
            continue  # these have words of their own
        assert part.info.lower() == option.help.lower(), option.name
        if isinstance(option.read, OneOf):
            offered = {value for _, value in part.choices}
            assert set(option.read.choices) <= offered <= {*option.read.choices, LEFT_OUT.get(option.name), part.value}


def test_nothing_is_asked_for_by_a_page_that_was_just_opened(endpoint):
    form = Form()
    for option in OPTIONS:
        if option.key in endpoint and option.key not in ("image", "video", "audio"):
            form.take(option.name, endpoint[option.key])
    given = form.texts([part.value for part in form.parts])
    assert given == {"model": "tiny"}


@pytest.mark.parametrize(
    "name", [name for name, each in DECLARED.items() if isinstance(each.kind, Range) and name not in PAGE_LACKS]
)
def test_a_value_out_of_range_is_refused_in_one_line_with_its_label(endpoint, name):
    form = Form()
    part = form.take(name, endpoint[DECLARED[name].key])
    with pytest.raises(InputError) as error:
        form.texts(["-1000"])
    assert part.label in str(error.value) and "must be" in str(error.value) and "\n" not in str(error.value)


def test_models_are_found_where_they_are_looked_for(tmp_path, monkeypatch):
    for place in ("here", "models/beside", "more/named"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model_index.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    own = [str(tmp_path / "here"), str(tmp_path / "models" / "beside")]
    assert found_models(None, trusted=True) == own
    assert found_models(Path("more"), trusted=True) == ["more/named", *own]
    assert found_models(Path("more"), trusted=False) == ["more/named"], "others see what they are given alone"
