"""Tabs that are closed, and those whose connection was lost for a while."""

from __future__ import annotations

import pytest

gradio = pytest.importorskip("gradio", reason="no gradio; pip install '.[test]'")


def test_a_tab_waits_until_it_is_closed_and_again_when_it_clicks(monkeypatch):
    from jointdit.ui import visitors as module

    monkeypatch.setattr(module, "MOST", 2)
    visitors, tabs = module.Visitors(), [gradio.Request(session_hash=name) for name in "abc"]
    for tab in tabs:
        assert visitors.wait(tab)
        visitors.leave(tab)
        assert not visitors.wait(tab)
    assert visitors.wait(tabs[0]), "only so many are remembered"
    visitors.come(tabs[1])
    assert visitors.wait(tabs[1]) and not visitors.wait(tabs[2])
