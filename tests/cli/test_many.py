"""Many clips with one command: which they are, that they do not depend on each other, and what failures leave."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jointdit.cli import generate, main
from jointdit.cli.jobs import list_jobs, read_rows, read_seeds
from jointdit.cli.outputs import folder_of_clips
from jointdit.errors import InputError
from jointdit.media import Clip, read_clip
from jointdit.media.recipe import read_recipe, recipe_text

SMALL = ["--steps", "1", "--frames", "4", "--size", "32x32", "--quiet"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("one", "two", "three")):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_a_folder_of_clips_is_made_with_one_model_and_goes_on(photos, tmp_path, monkeypatch, capsys) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    loads, load = [], generate.load_model
    monkeypatch.setattr(generate, "load_model", lambda *options: loads.append(options) or load(*options))
    argv = ["generate", str(photos), "-o", str(tmp_path / "clips"), "--seed", "3", "--batch", "2", *SMALL]
    assert main(argv) == 2
    made = sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert made == ["one.mp4", "three.mp4", "two.mp4"] and len(loads) == 1
    error = capsys.readouterr().err
    assert "broken.png: not a picture" in error and "1 of 4 clips were not made" in error
    alone = tmp_path / "alone.mp4"
    assert main(["generate", str(photos / "two.png"), "-o", str(alone), "--seed", "3", *SMALL]) == 0
    pair = [read_clip(path) for path in (alone, tmp_path / "clips" / "two.mp4")]
    difference = np.abs(pair[0].frames.astype(int) - pair[1].frames)  # rounding, which the coding makes larger
    assert difference.max() <= 8 and difference.mean() < 0.2, "its batch does not matter"
    np.testing.assert_allclose(pair[0].audio, pair[1].audio, atol=0.01)

    (photos / "broken.png").unlink()
    (tmp_path / "clips" / "one.mp4").unlink()
    kept = (tmp_path / "clips" / "two.mp4").stat().st_mtime_ns
    assert main(argv) == 0
    assert (tmp_path / "clips" / "one.mp4").exists()
    assert (tmp_path / "clips" / "two.mp4").stat().st_mtime_ns == kept


def test_processes_that_accelerate_launch_starts_share_the_list(photos, tmp_path) -> None:
    argv = ["generate", str(photos), "--seed", "3", "--batch", "1", *SMALL, "-o"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    places = [*launcher, "--main_process_port", "0", "-m", "jointdit", *argv, str(tmp_path / "shared")]
    done = subprocess.run(places, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "process 1 of 2: 2 of 3 clips" in done.stderr and "process 2 of 2: 1 of 3 clips" in done.stderr
    made = sorted(re.findall(r"(\w+)\.mp4: 4 frames", done.stdout))
    assert made == ["one", "three", "two"], "each clip is made once"
    assert main([*argv, str(tmp_path / "alone")]) == 0
    for name in made:
        shared, alone = (read_clip(tmp_path / place / f"{name}.mp4") for place in ("shared", "alone"))
        assert np.array_equal(shared.frames, alone.frames) and np.array_equal(shared.audio, alone.audio)


def test_seeds_and_rows_are_read_or_refused(tmp_path) -> None:
    assert read_seeds("1,2, 3") == (1, 2, 3) and read_seeds("4x") == "4x"
    table = tmp_path / "table.csv"
    table.write_text('picture,prompt,seed\na.png,"rain, heavy",5\n,bell,\n')
    first, second = read_rows(table)
    assert (first.picture, first.prompt, first.seed) == (tmp_path / "a.png", "rain, heavy", 5)
    assert (second.picture, second.prompt, second.seed) == (None, "bell", None)
    for text, told in (
        ("colour\nred\n", "colour"),
        ("seed\n-1\n", "line 2"),
        ("prompt\na,b\n", "line 2"),
        ("", "first"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=told):
            read_rows(table)


def test_folders_patterns_prompts_and_seeds_name_their_clips(photos, tmp_path) -> None:
    (photos / "notes.txt").write_text("no picture")
    prompts, table = tmp_path / "prompts.txt", tmp_path / "table.csv"
    prompts.write_text("heavy rain\n\na bell rings\n")
    table.write_text("seed,picture,prompt\n7,photos/one.png,rain\n,photos/two.png,\n")
    plain = dict.fromkeys(("prompts", "prompt", "seeds", "seed", "video")) | {"output": Path("clips"), "image": ()}

    def names(**options: object) -> list[str]:
        return [job.output.name for job in list_jobs(plain | options, 3, ".mp4")]

    assert names(image=(photos,)) == ["one.mp4", "three.mp4", "two.mp4"]
    assert names(image=(photos / "t*.png", photos / "one.png")) == ["three.mp4", "two.mp4", "one.mp4"]
    assert names(image=(photos / "t*.png",), prompts=prompts, seeds="2x", seed=5) == [
        f"{picture}_prompt{row}_seed{seed}.mp4" for row in (1, 2) for picture in ("three", "two") for seed in (5, 6)
    ]
    assert names(prompts=table) == ["one_prompt1_seed7.mp4", "two_prompt2.mp4"]
    assert [job.prompt for job in list_jobs(plain | {"prompts": table}, 3, ".mp4")] == ["rain", None]
    with pytest.raises(InputError, match="there are no pictures"):
        names(image=(photos / "*.jpg",))


def test_two_clips_of_one_name_and_a_file_for_many_are_refused(photos, tmp_path, capsys) -> None:
    Image.new("RGB", (8, 8)).save(photos / "one.jpg")
    assert main(["generate", str(photos), "-o", str(tmp_path / "clips"), *SMALL]) == 2
    assert "would both become" in capsys.readouterr().err
    assert main(["generate", "--seeds", "2x", "-o", str(tmp_path / "a.mp4"), *SMALL]) == 2
    assert "name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp"])
def test_a_clip_says_how_to_make_it_again(suffix, tmp_path) -> None:
    first, again = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    argv = ["generate", "-o", str(first), "--prompt", "heavy rain", "--isolated", *SMALL]
    assert main(argv) == 0
    assert main(["generate", "--like", str(first), "-o", str(again), "--quiet"]) == 0
    assert first.read_bytes() == again.read_bytes()
    assert read_recipe(first)["prompt"] == "heavy rain"


@pytest.mark.parametrize(
    ("comment", "told"),
    [
        ("{", "does not say"),
        ("[" * 9000, "does not say"),
        (recipe_text("1", {"output": 3, "stepz": "1"}), "stepz"),
        (recipe_text("1", {"steps": [1]}), "steps must be"),
        (recipe_text("1", {"steps": "0"}), "--steps 0"),
        (recipe_text("1", {"prompt": "x" * 70_000}), "characters"),
    ],
    ids=["broken", "deep", "unknown", "list", "range", "long"],
)
def test_a_recipe_of_a_stranger_is_checked(comment, told, tmp_path, capsys) -> None:
    path = tmp_path / "a.webm"
    Clip(np.zeros((2, 16, 16, 3), np.uint8), 10, np.zeros((1, 0), np.float32), 16000).save(path, comment=comment)
    assert main(["generate", "--like", str(path), "-o", str(tmp_path / "b.mp4"), "--quiet"]) == 2
    assert told in capsys.readouterr().err


def test_what_stands_beside_a_clip_and_how_loud_it_is(tmp_path) -> None:
    from jointdit.media import read_audio
    from jointdit.media.loudness import loudness

    clip = tmp_path / "a.mp4"
    argv = ["generate", "-o", str(clip), "--wav", "--silent-video", "--loudness", "-30", "--seed", "1", *SMALL]
    assert main([*argv, "--frames", "8"]) == 0
    assert not read_clip(tmp_path / "a_silent.mp4").has_audio
    assert loudness(*read_audio(tmp_path / "a.wav")) == pytest.approx(-30, abs=0.2)


def test_a_clip_goes_to_standard_output(tmp_path, capsysbinary) -> None:
    assert main(["generate", "-o", "-", "--format", "webm", "--seed", "1", *SMALL]) == 0
    out, err = capsysbinary.readouterr()
    (tmp_path / "a.webm").write_bytes(out)
    assert read_clip(tmp_path / "a.webm").frames.shape == (4, 32, 32, 3) and b"seed 1" in err


def test_gain_is_decibels(tmp_path) -> None:
    from jointdit.media import read_audio

    for name, more in (("plain", []), ("quiet", ["--gain", "-20"])):
        assert main(["generate", "-o", str(tmp_path / f"{name}.mp4"), "--wav", "--seed", "1", *more, *SMALL]) == 0
    plain, quiet = (read_audio(tmp_path / f"{name}.wav")[0] for name in ("plain", "quiet"))
    np.testing.assert_allclose(quiet, plain / 10, atol=2**-15)


def test_the_doctor_tells_people_where_models_were_looked_for(capsys, tmp_path, monkeypatch) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "model_index.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("models") and line.endswith(f"mine in {tmp_path / 'models'}") for line in lines)
    assert any(line.startswith("models") and line.endswith(f"none in {tmp_path}") for line in lines)
    for name in ("torch", "cores", "GiB free", "tiny bundled", "[ui]", "jointdit ui, the web page"):
        assert any(name in line for line in lines), name


def test_the_doctor_says_what_is_here(capsys) -> None:
    import json

    import tomllib

    from jointdit.cli.doctor import EXTRAS

    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["models"]["bundled"] == ["tiny"] and found["packages"]["torch"]
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"].keys() - {"test", "dev"} == EXTRAS.keys()


def test_no_empty_folder_is_left_where_no_clip_was_made(tmp_path, capsys) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    new, old = tmp_path / "new", tmp_path / "old"
    old.mkdir()
    for folder in (new, old):
        assert main(["generate", str(tmp_path / "broken.png"), "--seeds", "1,2", "-o", str(folder)]) == 2
    assert "broken.png: not a picture" in capsys.readouterr().err
    assert not new.exists() and old.exists()


def test_one_of_several_processes_leaves_the_folder_to_the_others(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError), folder_of_clips(tmp_path / "clips"):
        raise InputError("its own share cannot be made")
    with folder_of_clips(tmp_path / "empty"):
        pass  # its share is empty
    assert (tmp_path / "clips").is_dir() and (tmp_path / "empty").is_dir()
