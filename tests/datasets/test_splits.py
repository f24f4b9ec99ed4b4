"""The splits of published sets, in the files that they come with, and a cache that knows its own."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from sounding_videos import video

from jointdit import JointDiTPipeline
from jointdit.cli import main
from jointdit.datasets.recordings import find_recordings
from jointdit.errors import InputError
from jointdit.latents import ClipShape
from jointdit.train.cache import LatentCache, read_split
from jointdit.train.write_cache import write_cache


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, layout: str, split: str) -> list[str]:
    return [each.name for each in find_recordings(folder, layout, split) if not each.problem]


@pytest.mark.parametrize("inside", ["", "videos"], ids=["the set", "its videos"])
def test_avsync15_is_split_by_the_lists_beside_its_videos(tmp_path, inside):
    touch(tmp_path, *(f"videos/dog_barking/{name}.mp4" for name in "abc"), "videos/lions_roaring/a.mp4")
    (tmp_path / "train.txt").write_text("dog_barking/a.mp4\nlions_roaring/a.mp4\n")
    (tmp_path / "test.txt").write_text("dog_barking/b.mp4\ndog_barking/lost.mp4\n")
    prefix = "" if inside else "videos/"
    assert found(tmp_path / inside, "avsync15", "train") == [
        f"{prefix}dog_barking/a.mp4",
        f"{prefix}lions_roaring/a.mp4",
    ]
    test = find_recordings(tmp_path / inside, "avsync15", "test")
    assert {(each.name, each.caption, each.problem) for each in test} == {
        (f"{prefix}dog_barking/b.mp4", "dog barking", ""),
        ("dog_barking/lost.mp4", "", "listed in test, and not there"),
    }
    with pytest.raises(InputError, match="split validation; it has test, train"):
        find_recordings(tmp_path / inside, "avsync15", "validation")


def test_landscape_is_split_by_its_folders_though_both_lists_name_files_alike(tmp_path):
    touch(tmp_path, "videos/train/rain/a.mp4", "videos/test/rain/a.mp4", "videos/test/rain/b.mp4")
    (tmp_path / "train.txt").write_text("rain/a.mp4\n")
    (tmp_path / "test.txt").write_text("rain/a.mp4\nrain/b.mp4\n")
    assert found(tmp_path, "landscape", "train") == ["videos/train/rain/a.mp4"]
    test = find_recordings(tmp_path, "landscape", "test")
    assert [(each.name, each.caption) for each in test] == [
        ("videos/test/rain/a.mp4", "rain"),
        ("videos/test/rain/b.mp4", "rain"),
    ]


@pytest.mark.parametrize("line", ["2015-02-16-16-49-06", "2015-02-16-16-49-06_denoised_thumb.mp4"])
def test_greatest_hits_is_split_by_identities_or_by_files(tmp_path, line):
    touch(tmp_path, "2015-02-16-16-49-06_denoised_thumb.mp4", "2015-03-01-10-00-00_denoised_thumb.mp4")
    (tmp_path / "2015-02-16-16-49-06_times.txt").write_text("1.0 wood hit static\n")
    (tmp_path / "test.txt").write_text(line + "\n")
    assert found(tmp_path, "greatest-hits", "test") == ["2015-02-16-16-49-06_denoised_thumb.mp4"]


def test_vggsound_is_split_by_the_last_column_of_its_table(tmp_path):
    (tmp_path / "vggsound.csv").write_text('aaa,30,"dog barking, loud",train\nbbb,7,rain,test\nccc,1,rain,test\n')
    touch(tmp_path, "aaa_000030.mp4", "bbb_000007.mp4")
    assert found(tmp_path, "vggsound", "train") == ["aaa_000030.mp4"]
    assert found(tmp_path, "vggsound", "test") == ["bbb_000007.mp4"]


def test_a_recording_in_two_splits_is_refused(tmp_path):
    touch(tmp_path, "rain/a.mp4")
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("rain/a.mp4\n")
    with pytest.raises(InputError, match=r"rain/a\.mp4: is listed in test and train"):
        find_recordings(tmp_path, "avsync15", "test")


def test_a_set_without_lists_says_what_was_looked_for(tmp_path):
    touch(tmp_path, "set/rain/a.mp4")
    with pytest.raises(InputError, match=r"test; it has none \(looked for train\.txt"):
        find_recordings(tmp_path / "set", "avsync15", "test")


def test_a_limit_draws_by_name_from_all_classes_and_a_higher_one_adds(tmp_path):
    touch(tmp_path, *(f"{name}/{index}.mp4" for name in ("rain", "wind", "fire") for index in range(20)))
    few, more = ({each.name for each in find_recordings(tmp_path, limit=limit)} for limit in (12, 30))
    assert len(few) == 12 and len(more) == 30 and few < more
    assert len({name.split("/")[0] for name in few}) == 3


def test_a_cache_of_the_test_split_is_not_trained_on_unless_told(tmp_path, capsys):
    for name in ("rain/a", "rain/b", "rain/c"):
        video(tmp_path / "videos" / f"{name}.mp4")
    (tmp_path / "train.txt").write_text("rain/a.mp4\n")
    (tmp_path / "test.txt").write_text("rain/b.mp4\nrain/c.mp4\n")
    cache = tmp_path / "cache"
    command = [
        "cache",
        str(tmp_path / "videos"),
        str(cache),
        "--layout",
        "avsync15",
        "--frames",
        "4",
        "--size",
        "32x32",
    ]
    assert main([*command, "--split", "test", "--quiet"]) == 0
    assert {name.split("#")[0] for name in LatentCache(cache).names} == {"rain/b.mp4", "rain/c.mp4"}
    assert main(["cache", str(cache), "--report"]) == 0
    assert "split test" in capsys.readouterr().out

    assert main([*command, "--split", "train", "--quiet"]) == 2
    assert "split test -> train" in capsys.readouterr().err

    train = ["train", "a", "--quiet", "--set", f"cache={cache}", "--set", f"output={tmp_path / 'run'}"]
    assert main(train) == 2
    assert "holds the split test, and this run trains on train" in capsys.readouterr().err
    told = ["split=test", "steps=1", "batch=1", "held_out=1", "samples=0", "tensorboard=false", "validate_every=9"]
    assert main([*train, *(part for each in told for part in ("--set", each))]) == 0


def test_a_cache_of_a_whole_set_says_so_and_is_not_trained_on_unless_told(tmp_path, capsys):
    for name in ("rain/a", "rain/b"):
        video(tmp_path / "videos" / f"{name}.mp4")
    (tmp_path / "train.txt").write_text("rain/a.mp4\n")
    (tmp_path / "test.txt").write_text("rain/b.mp4\n")
    command = ["cache", str(tmp_path / "videos"), str(tmp_path / "cache"), "--layout", "avsync15", "--quiet"]
    assert main([*command, "--frames", "4", "--size", "32x32"]) == 0
    assert "all splits of the set are in this cache (1 of test, 1 of train)" in capsys.readouterr().out
    cache, run = tmp_path / "cache", tmp_path / "run"
    train = ["train", "a", "--quiet", "--set", f"cache={cache}", "--set", f"output={run}"]
    assert main(train) == 2
    assert "holds a whole set, with what judges models, and this run trains on train" in capsys.readouterr().err
    told = ["split=all", "steps=1", "batch=1", "held_out=1", "samples=0", "tensorboard=false", "validate_every=9"]
    assert main([*train, *(part for each in told for part in ("--set", each))]) == 0

    config = cache / "cache.json"  # as such a cache was written once
    config.write_text(config.read_text().replace('"split": "all"', '"split": null'))
    assert read_split(cache) is None
    assert main([*command, "--frames", "4", "--size", "32x32"]) == 0
    assert read_split(cache) == "all"


def test_a_cache_from_before_there_were_splits_is_filled_further(tmp_path):
    video(tmp_path / "videos" / "rain" / "a.mp4")
    pipe, shape = JointDiTPipeline.from_pretrained("tiny"), ClipShape(4, Fraction(25, 2), 32, 32)
    cache = tmp_path / "cache"
    write_cache(pipe, find_recordings(tmp_path / "videos"), cache, shape)
    config = cache / "cache.json"
    config.write_text(config.read_text().replace(',\n  "split": null', ""))
    assert "split" not in config.read_text()
    video(tmp_path / "videos" / "rain" / "b.mp4")
    assert write_cache(pipe, find_recordings(tmp_path / "videos"), cache, shape).files == 2
