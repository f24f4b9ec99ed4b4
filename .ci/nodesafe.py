"""Fails on what nodesafe finds in this extension besides the explained exceptions of nodesafe.toml.

python .ci/nodesafe.py, from the root of the repository
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DEVELOPMENT = ignore_patterns(".*", "__pycache__", "build", "docs", "runs", "tests")  # what no user's ComfyUI imports


def findings() -> list[dict[str, Any]]:
    """What nodesafe says of the files that ComfyUI sees."""
    with tempfile.TemporaryDirectory() as folder:
        pack = copytree(ROOT, Path(folder) / "pack", ignore=DEVELOPMENT)
        command = ["nodesafe", "scan", str(pack), "--format", "json", "--fail-on", "none"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)["findings"]


def excused(finding: Mapping[str, Any], exception: Mapping[str, Any]) -> bool:
    """Whether this exception is about this finding."""
    if not re.search(exception["finding"], finding["title"]):
        return False
    if not re.search(exception.get("file", ""), finding["file"]):
        return False
    source = (ROOT / finding["file"]).read_text(encoding="utf-8")
    if not re.search(exception.get("code", ""), source.splitlines()[finding["line"] - 1]):
        return False
    longest = exception.get("longest_word")
    return longest is None or all(len(word) <= longest for word in words(source, finding["line"]))


def words(source: str, line: int) -> list[str]:
    """The words of the text literals that start on this line."""
    literals = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant) and node.lineno == line]
    return [word for node in literals if isinstance(node.value, str) for word in node.value.split()]


def main() -> None:
    exceptions = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["exception"]
    found = findings()
    unexplained = [each for each in found if not any(excused(each, exception) for exception in exceptions)]
    idle = [exception for exception in exceptions if not any(excused(each, exception) for each in found)]
    lines = [f"{each['file']}:{each['line']}: {each['title']}" for each in unexplained]
    lines += [f"nodesafe.toml: no longer found: {exception['finding']}" for exception in idle]
    if lines:
        sys.exit("\n".join(lines))
    print(f"nodesafe: {len(found)} findings, all explained")


if __name__ == "__main__":
    main()
