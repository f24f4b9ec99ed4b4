"""Fills in what only the repository that publishes knows: addresses, and the publisher's id at ComfyUI's registry.

python .ci/release.py, in a checkout of a tag, with GITHUB_REPOSITORY, GITHUB_REF_NAME and COMFY_PUBLISHER_ID. It
changes pyproject.toml there; nothing of it is committed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def filled(text: str, environment: Mapping[str, str]) -> str:
    """pyproject.toml with addresses. Raises ValueError where the tag or an entry does not fit."""
    repository, tag = environment["GITHUB_REPOSITORY"], environment["GITHUB_REF_NAME"]
    publisher = environment["COMFY_PUBLISHER_ID"]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository) or not re.fullmatch(r"[\w-]+", publisher):
        raise ValueError(f"repository {repository!r}, publisher {publisher!r}: give owner/name and an id")
    if f'\nversion = "{tag.removeprefix("v")}"\n' not in text:
        raise ValueError(f"the tag is {tag!r}; pyproject.toml has another version")
    home, files = f"https://github.com/{repository}", f"https://raw.githubusercontent.com/{repository}/{tag}"
    urls = "\n".join(
        [
            "[project.urls]",
            f'Repository = "{home}"',
            f'Documentation = "{home}/blob/{tag}/docs/README.md"',
            f'"Bug Tracker" = "{home}/issues"',
        ]
    )
    for entry, value in (
        ('PublisherId = ""', f'PublisherId = "{publisher}"'),
        ('Icon = "docs/', f'Icon = "{files}/docs/'),
        ('Banner = "docs/', f'Banner = "{files}/docs/'),
        ("[project.scripts]\n", f"{urls}\n\n[project.scripts]\n"),
    ):
        if text.count(entry) != 1:
            raise ValueError(f"pyproject.toml should have {entry!r} once")
        text = text.replace(entry, value)
    return text


if __name__ == "__main__":
    try:
        PROJECT.write_text(filled(PROJECT.read_text(encoding="utf-8"), os.environ), encoding="utf-8")
    except (ValueError, KeyError) as error:
        sys.exit(f"release.py: {error}")
