"""What is installed, and what an import costs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest

import jointdit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = set(
    "torch diffusers transformers accelerate safetensors einops huggingface_hub av numpy PIL scipy tqdm matplotlib "
    "skimage sklearn websocket".split()
)

# The package must bring no second copy of the library, no V1 mapping that would mask its nodes, no change of sys.path.
AS_COMFYUI = """
import json, sys
sys.path.append(sys.argv[1])
from comfy_pack import STAND_IN, load_pack
before = [str(STAND_IN), *sys.path]
pack = load_pack()
print(json.dumps([hasattr(pack, "NODE_CLASS_MAPPINGS"), sys.path == before, "jointdit" in sys.modules]))
"""


def python(*arguments: str, cwd: Path) -> str:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, check=True, capture_output=True, text=True, timeout=120
    ).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import jointdit; jointdit.__version__; dir(jointdit); jointdit.InputError",
        "import contextlib, jointdit.cli\nwith contextlib.suppress(SystemExit): jointdit.cli.main(['--help'])",
        "import contextlib, jointdit.cli\nwith contextlib.suppress(SystemExit): jointdit.cli.main(['generate', '-h'])",
    ],
    ids=["import", "help", "generate-help"],
)
def test_import_and_help_load_nothing_heavy(code: str, tmp_path: Path) -> None:
    loaded = python("-c", f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))", cwd=tmp_path)
    assert HEAVY.isdisjoint(json.loads(loaded.splitlines()[-1]))


def test_every_export_is_there() -> None:
    assert {"JointDiTPipeline", "JointCFG", "Clip", "JointDiTModel", "InputError"} <= set(jointdit.__all__)
    assert {"Memory", "SamplingSettings", "Speed", "SyncGuidance"} <= set(jointdit.__all__)
    assert set(jointdit.__all__) <= set(dir(jointdit))
    for name in jointdit.__all__:
        assert getattr(jointdit, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = jointdit.nonsense


def test_requirements_are_the_dependencies_without_upper_pins() -> None:
    dependencies = PROJECT["project"]["dependencies"]
    assert (ROOT / "requirements.txt").read_text().splitlines() == dependencies
    assert all(re.fullmatch(r"[a-z]+>=[\d.]+(; python_version < '3\.11')?", line) for line in dependencies)


def test_only_the_library_is_packaged_and_all_of_it() -> None:
    assert PROJECT["tool"]["setuptools"]["packages"]["find"] == {"include": ["jointdit*"]}
    assert [path.parent.name for path in ROOT.glob("jointdit*/__init__.py")] == ["jointdit"]
    folders = {path.parent for path in (ROOT / "jointdit").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_the_version_is_one() -> None:
    assert PROJECT["project"]["version"] == jointdit.__version__


RELEASE = {
    "GITHUB_REPOSITORY": "someone/pack",
    "GITHUB_REF_NAME": f"v{jointdit.__version__}",
    "COMFY_PUBLISHER_ID": "me",
}


def release(tmp_path: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """The release's preparation in a checkout of its own."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "release.py", tmp_path / ".ci")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = [sys.executable, str(tmp_path / ".ci" / "release.py")]
    return subprocess.run(command, env=os.environ | RELEASE | changes, capture_output=True, text=True, timeout=60)


def test_a_release_has_the_addresses_of_the_repository_that_publishes_it(tmp_path: Path) -> None:
    assert release(tmp_path).returncode == 0
    made = tomllib.loads((tmp_path / "pyproject.toml").read_text())
    urls, ours = made["project"].pop("urls"), PROJECT["tool"]["comfy"]
    assert urls["Repository"] == "https://github.com/someone/pack"
    comfy = made["tool"].pop("comfy")
    assert comfy["PublisherId"] == "me" and comfy["DisplayName"] == ours["DisplayName"]
    files = f"https://raw.githubusercontent.com/someone/pack/v{jointdit.__version__}"
    for name in ("Icon", "Banner"):
        assert comfy[name] == f"{files}/{ours[name]}"
    assert made["project"] == PROJECT["project"]
    assert made["tool"] == {name: each for name, each in PROJECT["tool"].items() if name != "comfy"}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"GITHUB_REF_NAME": "v9.9.9"}, "another version"), ({"COMFY_PUBLISHER_ID": ""}, "an id")],
)
def test_a_release_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    done = release(tmp_path, **change)
    assert done.returncode == 1 and message in done.stderr
    assert (tmp_path / "pyproject.toml").read_text() == (ROOT / "pyproject.toml").read_text()


def test_icon_and_banner_have_the_shapes_that_the_registry_asks_for() -> None:
    sizes = {}
    for name in ("Icon", "Banner"):
        root = ElementTree.parse(ROOT / PROJECT["tool"]["comfy"][name]).getroot()
        sizes[name] = int(root.attrib["width"]), int(root.attrib["height"])
    (width, height), (long, high) = sizes["Icon"], sizes["Banner"]
    assert width == height <= 400 and long * 9 == high * 21


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="jointdit")
    assert command.load() is jointdit.cli.main


def test_the_root_loads_as_a_comfyui_extension(tmp_path: Path) -> None:
    report = python("-c", AS_COMFYUI, str(ROOT / "tests" / "support"), cwd=tmp_path)
    assert json.loads(report.splitlines()[-1]) == [False, True, False]


def test_the_bundled_model_is_small_and_safe() -> None:
    files = [path for path in (ROOT / "jointdit" / "tiny").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt"}
    assert any(path.suffix == ".safetensors" for path in files)
