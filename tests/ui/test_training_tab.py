"""What the training tab shows while its commands run, without a browser."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("gradio", reason="no gradio; pip install '.[test]'")


def test_what_a_command_says_is_shown_and_its_error_raised(monkeypatch):
    from jointdit.errors import InputError
    from jointdit.ui import train

    monkeypatch.setattr(train, "LOOK", 0.05)
    assert list(train._lines(["--version"]))[-1].startswith("jointdit ")
    with pytest.raises(InputError, match="^nowhere: there is no such"):
        list(train._lines(["cache", "nowhere", "cache"]))


def test_samples_are_shown_when_they_are_whole_and_losses_when_there_are_some(tmp_path):
    from jointdit.ui import train

    shown = tmp_path / "shown"
    for folder in (tmp_path / "samples" / "0000001" / ".jointdit-1.partial", tmp_path / "samples" / "0000002", shown):
        folder.mkdir(parents=True)
    for path in (tmp_path / "samples").iterdir():
        (next(iter(path.iterdir()), path) / "000.mp4").write_bytes(b"clip")
    assert train.copies(tmp_path / "samples", shown) == [str(shown / "0000002_000.mp4")]
    assert [path.name for path in shown.iterdir()] == ["0000002_000.mp4"]

    log = tmp_path / "log.jsonl"
    assert train.losses(log) is None
    log.write_text("".join(json.dumps(each) + "\n" for each in ({"step": 1, "loss": 2.0}, {"step": 1, "gain": 0.1})))
    assert train.losses(log).to_dict("list") == {"step": [1], "loss": [2.0]}
