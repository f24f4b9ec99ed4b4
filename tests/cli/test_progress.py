"""What stands on stderr while a command works."""

from __future__ import annotations

import logging
import sys

from jointdit.cli.progress import Progress


def test_a_warning_beside_a_bar_stands_in_a_line_of_its_own(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress(quiet=False) as progress:
        progress("sample", 0, 3)
        logging.getLogger("jointdit.diffusion").warning("mind this")
        progress("sample", 3, 3)
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert "mind this" in lines and any("sample: 100%" in line for line in lines)
