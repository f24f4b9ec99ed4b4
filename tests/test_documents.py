"""The documents say what is there: links, commands, options, code and tables."""

from __future__ import annotations

import argparse
import ast
import builtins
import importlib
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import bundled_model_tables
import numpy as np
import pytest
import reuse
import torch
from PIL import Image

import jointdit
from jointdit import JointCFG
from jointdit.cli import _parser, cache, evaluate, generate, synth
from jointdit.cli.options import read_options
from jointdit.media import Clip

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "web", "jointdit", ".github")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
README, COMMAND_LINE = ROOT / "README.md", ROOT / "docs" / "command-line.md"
OF_ALL = {"--help", "--debug", "--quiet", "--version"}  # described once for all commands
OTHER_PROGRAMS = ("accelerate ", "main.py ", "pytest ", "python ", "torchrun ", "ruff ", "pip ", "pre-commit ")
PAGES_OF_COUNTS = ("memory-and-speed", "guidance")
COUNTS = (
    "ratio to diffusers' two pipelines",
    "ratio to diffusers' two pipelines of a clip, with reuse",
    "operations of a clip relative to 25 steps of diffusers' two pipelines, by steps",
    "ratio to diffusers' two pipelines, where guidance is not for all",
)
READ = {"generate": generate, "synth": synth, "cache": cache, "evaluate": evaluate}

each_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def inline(page: Path) -> list[str]:
    """The code in the sentences of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command in the shell blocks of a page."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = next((index for index, word in enumerate(words) if word in ("&&", "|", ";")), len(words))
                yield words[:end]
                words = words[end + 1 :]


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings if option.startswith("--")}


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (action,) = [each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(action.choices)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)}


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) <= 8 * 1024


@each_page
def test_every_relative_link_resolves(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_every_command_is_one_that_the_parser_takes(page: Path) -> None:
    for words in commands(page):
        if words[:3] == ["accelerate", "launch", "-m"] or words[:2] == ["python", "-m"]:
            words = words[words.index("-m") + 1 :]
        if words[0] != "jointdit":
            continue
        arguments = _parser().parse_args(words[1:])
        if words[1] in READ:
            options = read_options(READ[words[1]].OPTIONS, arguments)
            if words[1] in ("generate", "evaluate"):
                generate.guidance_options(options)
        if words[1] == "train":
            template = (ROOT / "jointdit" / "train" / "stage_a.toml").read_text(encoding="utf-8")
            names = re.findall(r"^(\w+) = ", template, re.MULTILINE)
            assert {change.partition("=")[0] for change in arguments.set} <= set(names)


@each_page
def test_every_script_is_there_and_has_the_options(page: Path) -> None:
    for words in [*commands(page), *(shlex.split(code) for code in inline(page) if code.startswith("python "))]:
        scripts = [word for word in words[1:2] if words[0] == "python" and word.endswith(".py")]
        for script in scripts:
            source = (ROOT / script).read_text(encoding="utf-8")
            assert all(f'"{word}"' in source for word in words if word.startswith("--")), words


@pytest.mark.parametrize("page", [ROOT / name for name in NAMES if "recipes" not in name], ids=lambda page: page.name)
def test_every_option_in_a_sentence_exists(page: Path) -> None:
    known = {name: options_of(parser) for name, parser in parsers().items()}
    for code in inline(page):
        if code.startswith(OTHER_PROGRAMS):
            continue
        named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))
        if command := re.match(r"jointdit ([a-z][a-z-]+)", code):
            assert named <= known[command[1]], code
        else:
            assert named <= set().union(*known.values()) | OF_ALL, code


@pytest.mark.parametrize("command", parsers())
def test_every_option_is_documented(command: str) -> None:
    _, _, section = COMMAND_LINE.read_text(encoding="utf-8").partition(f"\n## {command}\n")
    section = section.partition("\n## ")[0]
    told = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", section))
    assert options_of(parsers()[command]) - OF_ALL <= told


@each_page
def test_python_code_imports_what_it_uses(page: Path) -> None:
    known = set(dir(builtins))
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            if isinstance(node, ast.Import | ast.ImportFrom):
                known |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.arg):
                known.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                known.add(node.id)
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        assert used <= known, used - known


def test_the_model_card_is_what_the_logs_say() -> None:
    assert bundled_model_tables.CARD.read_text(encoding="utf-8") == bundled_model_tables.drawn_card()


def test_the_curve_of_reuse_is_what_the_log_says() -> None:
    report = json.loads((ROOT / "docs" / "logs" / "reuse.json").read_text(encoding="utf-8"))
    assert reuse.table(report) in (ROOT / "docs" / "memory-and-speed.md").read_text(encoding="utf-8")


def test_counted_ratios_are_what_the_log_says() -> None:
    log = json.loads((ROOT / "docs" / "logs" / "full_size_operations.json").read_text(encoding="utf-8"))
    small, large = log["operations"].values()
    speed, guidance = ((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in PAGES_OF_COUNTS)
    exact, again, few, cheap = COUNTS
    assert f"| exact | {small[exact]['joint-cfg']:.2f} | {large[exact]['joint-cfg']:.2f} |" in speed
    for every in (2, 3, 4):
        ratios = [size[again][f"every {every}"]["joint-cfg"] for size in (small, large)]
        assert f"| `--reuse {every}` | {ratios[0]:.2f} | {ratios[1]:.2f} |" in speed
    counted = json.loads((ROOT / "docs" / "logs" / "reuse_layers.json").read_text(encoding="utf-8"))["layers"].values()
    for every in (2, 3, 4):
        for layers in (1, 2):
            ratios = [size["by layers"][str(layers)][f"every {every}"]["joint-cfg"] for size in counted]
            assert f"| `--reuse {every} --reuse-layers {layers}` | {ratios[0]:.2f} | {ratios[1]:.2f} |" in speed
    for steps, row in small[few].items():
        assert f"| {steps} | {row['none']:.2f} | {row['joint-cfg']:.2f} |" in speed
    assert guidance.count(f" | {small[cheap]['the sound alone']:.2f} |") == 3  # none at all is as little
    assert f"interval=(0.28, 5.42))` | {small[cheap]['joint-cfg in (0.28, 5.42)']:.2f} |" in guidance


def test_the_changelog_knows_this_version() -> None:
    assert f"\n## [{jointdit.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_predecessors_guidance_is_the_one_that_the_method_page_names() -> None:
    strength = 1.5
    guidance = JointCFG("joint-cfg-star", video_scale=1, audio_scale=1, joint_scale=1 + strength)
    weights = guidance.weights(video_sigma=5.0, frames=4)
    assert list(weights) == ["c", "iso"]  # D(c) + v (D(c) - D_iso(c))
    for name, weight in (("c", 1 + strength), ("iso", -strength)):
        video, audio = weights[name]
        torch.testing.assert_close(video, torch.full((4, 1, 1, 1), weight))
        torch.testing.assert_close(audio, torch.tensor(weight))


def test_the_picture_of_the_readme_moves_and_is_small() -> None:
    path = ROOT / "docs" / "clip.webp"
    with Image.open(path) as picture:
        assert picture.n_frames > 20
    assert path.stat().st_size < 1_500_000


def test_a_clip_is_drawn_with_a_cursor_that_moves() -> None:
    spec = importlib.util.spec_from_file_location("draw_clip", ROOT / "docs" / "draw_clip.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 4000)).astype(np.float32)
    pictures = script.draw(Clip(np.full((3, 32, 32, 3), 90, np.uint8), 12, sound, 16000))
    assert len(pictures) == 3 * script.CURSORS
    columns = [np.flatnonzero((np.asarray(picture) == script.CURSOR).all(-1).any(0)).mean() for picture in pictures]
    assert all(np.diff(columns) > 0)
