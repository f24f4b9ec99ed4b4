"""What a cache that is there already decides: files that changed, work that is shared."""

from __future__ import annotations

from fractions import Fraction

import pytest
from sounding_videos import video

from jointdit import JointDiTPipeline
from jointdit.datasets.recordings import find_recordings
from jointdit.latents import ClipShape
from jointdit.train.cache import LatentCache
from jointdit.train.write_cache import write_cache

SHAPE = ClipShape(frames=4, fps=Fraction(25, 2), height=32, width=32)
NAMES = [f"rain/{index}.mp4#{clip}" for index in range(4) for clip in range(2)]


@pytest.fixture(scope="module")
def pipe():
    return JointDiTPipeline.from_pretrained("tiny")


@pytest.fixture
def folder(tmp_path):
    for index in range(4):
        video(tmp_path / "videos" / "rain" / f"{index}.mp4")
    video(tmp_path / "videos" / "rain" / "silent.mp4", sound="silence")
    return tmp_path / "videos"


def write(pipe, folder, part=0, parts=1):
    return write_cache(pipe, find_recordings(folder), folder.parent / "cache", SHAPE, part, parts)


def names(folder):
    return sorted(LatentCache(folder.parent / "cache").names)


def test_a_replaced_file_that_works_is_in_the_cache(pipe, folder):
    broken = folder / "rain" / "0.mp4"
    good = broken.read_bytes()
    broken.write_bytes(b"not a video")
    assert sorted(write(pipe, folder).skipped) == ["rain/0.mp4", "rain/silent.mp4"]
    assert names(folder) == NAMES[2:]
    broken.write_bytes(good)
    written = write(pipe, folder)
    assert list(written.skipped) == ["rain/silent.mp4"] and written.clips == 8
    assert names(folder) == NAMES
    assert write(pipe, folder) == written


def test_a_caption_that_was_missing_is_looked_for_again(pipe, folder):
    video(folder / "flat.mp4")
    assert "no caption" in write(pipe, folder).skipped["flat.mp4"]
    (folder / "flat.txt").write_text("a bell")
    assert list(write(pipe, folder).skipped) == ["rain/silent.mp4"]
    assert names(folder) == ["flat.mp4#0", "flat.mp4#1", *NAMES]


@pytest.mark.parametrize("runs", [[(0, 1), (0, 2), (1, 2)], [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 1)]])
def test_no_clip_doubles_whatever_parts_there_were(pipe, folder, runs):
    skipped = []
    for part, parts in runs:
        skipped += write(pipe, folder, part, parts).skipped
        assert len(names(folder)) == len(set(names(folder)))
    assert names(folder) == NAMES
    assert len(skipped) == len({parts for _, parts in runs}), "each whole run names it once"


def test_new_files_do_not_shift_the_parts(pipe, folder):
    written = [write(pipe, folder, part, 2).clips for part in range(2)]
    video(folder / "a new class" / "first.mp4")
    again = [write(pipe, folder, part, 2).clips for part in range(2)]
    assert sum(again) == 10 and sorted(after - before for before, after in zip(written, again, strict=True)) == [0, 2]
    assert names(folder) == ["a new class/first.mp4#0", "a new class/first.mp4#1", *NAMES]
