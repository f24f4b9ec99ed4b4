"""Which videos of a folder are found, and what each is called."""

from __future__ import annotations

import pytest

from jointdit.errors import InputError
from jointdit.train.recordings import find_recordings


def test_a_video_without_a_class_folder_gets_no_caption_from_the_folder_of_all(tmp_path):
    folder = tmp_path / "my videos"
    (folder / "rain").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "rain/c.mp4"):
        (folder / name).touch()
    (folder / "b.txt").write_text("a bell")
    first, *others = find_recordings(folder)
    assert not first.caption and "a.txt" in first.problem and "captions.csv" in first.problem
    assert [(each.caption, each.problem) for each in others] == [("a bell", ""), ("rain", "")]


def test_a_flat_folder_says_in_one_line_how_to_give_captions(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"none of the 2 videos.*a\.txt.*captions\.csv") as error:
        find_recordings(tmp_path)
    assert "\n" not in str(error.value)
