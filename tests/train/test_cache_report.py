"""What is measured of the clips of a cache, how it is reported, and training on a choice of them."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from sounding_videos import video

from jointdit import JointDiTPipeline
from jointdit.cli import main
from jointdit.datasets.recordings import TrainingClip, cut, find_recordings
from jointdit.errors import InputError
from jointdit.latents import ClipShape
from jointdit.train.cache import LatentCache
from jointdit.train.cache_index import Measures, read_shards
from jointdit.train.cache_report import report_cache
from jointdit.train.measures import measure
from jointdit.train.stages import TEMPLATES, read_config
from jointdit.train.write_cache import write_cache

RATE = 16000
SHAPE = ClipShape(frames=4, fps=Fraction(25, 2), height=32, width=32)
LONG = ClipShape(frames=25, fps=Fraction(25, 2), height=16, width=16)


def clip_of(moves: np.ndarray, loud: np.ndarray) -> TrainingClip:
    """A picture that jumps by `moves` [25] grey levels, and noise of the levels `loud` [25]."""
    grey = (100 + np.cumsum(moves * np.where(np.arange(25) % 2, 1, -1))).clip(0, 255).astype(np.uint8)
    frames = np.broadcast_to(grey[:, None, None, None], (25, 16, 16, 3))
    noise = np.random.default_rng(0).normal(0, 0.1, LONG.samples(RATE)).astype(np.float32)
    return TrainingClip(
        "a#0", "", frames, noise * np.repeat(loud, -(-len(noise) // 25))[: len(noise)].astype(np.float32)
    )


def test_sync_is_high_where_blows_are_heard_and_nothing_where_all_is_loud_and_lively():
    blows = np.zeros(25)
    blows[[4, 11, 13, 21]] = 40
    heard = np.where(np.roll(blows, -1) > 0, 1.0, 0.01)
    together = measure(clip_of(blows, heard), LONG, RATE)
    apart = measure(clip_of(blows, np.roll(heard, 8)), LONG, RATE)
    busy = measure(clip_of(np.full(25, 40.0), np.ones(25)), LONG, RATE)
    assert together.sync > 0.5 > 0.2 > max(apart.sync, busy.sync)
    assert busy.motion == pytest.approx(40) and busy.loudness == pytest.approx(-20, abs=0.5)
    assert together.motion == pytest.approx(4 * 40 / 24, abs=0.01)


@pytest.fixture(scope="module")
def pipe():
    return JointDiTPipeline.from_pretrained("tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for name in ("rain/a.mp4", "rain/b.mp4", "a bell/long name.mp4"):
        video(folder / "videos" / name, seconds=1.4)
    video(folder / "videos" / "rain" / "silent.mp4", sound="silence")
    return folder


@pytest.fixture(scope="module")
def cache(pipe, folder):
    write_cache(pipe, find_recordings(folder / "videos"), folder / "cache", SHAPE)
    return folder / "cache"


def test_the_report_counts_captions_and_names_what_was_left_out(cache, tmp_path, capsys):
    assert main(["cache", str(cache), "--report", "--json", str(tmp_path / "report.json")]) == 0
    shown = capsys.readouterr().out
    assert "12 clips of 3 recordings" in shown and "left out: rain/silent.mp4: is silent" in shown
    report = json.loads((tmp_path / "report.json").read_text())
    assert {text: caption["clips"] for text, caption in report["captions"].items()} == {"rain": 8, "a bell": 4}
    assert report["seconds"] == pytest.approx(12 * 0.32) and report["measured"] == 12
    loudness = [each.loudness for shard in read_shards(cache) for each in shard.measures]
    assert report["percentiles"]["loudness"]["50"] == pytest.approx(np.median(loudness), abs=1e-3)
    assert list(report["left_out"]) == ["rain/silent.mp4"]
    for wrong in (["cache", str(cache)], ["cache", str(cache), "--report", "--json", str(tmp_path / "no" / "a.json")]):
        assert main(wrong) == 2


def test_measures_are_those_of_the_clips_and_choose_among_them(cache, folder, tmp_path):
    recordings = find_recordings(folder / "videos")[:3]
    clips = [clip for recording in recordings for clip in cut(recording, SHAPE, RATE)]
    (shard,) = read_shards(cache)
    assert shard.measures == [measure(clip, SHAPE, RATE) for clip in clips]
    motions = sorted(each.motion for each in shard.measures)
    some = LatentCache(cache, Measures(motion=motions[4]))
    assert len(some) == 8 and len(LatentCache(cache)) == 12
    whole = LatentCache(cache)
    same = whole.batch([whole.names.index(some.names[3])])
    assert some.captions[3] == whole.captions[whole.names.index(some.names[3])]
    assert np.array_equal(some.batch([3]).video, same.video)
    with pytest.raises(InputError, match="no clip has at least.*min_motion"):
        LatentCache(cache, Measures(motion=motions[-1] + 1))
    with pytest.raises(InputError, match="min_sync is nan, but must be a number"):
        read_config(TEMPLATES["a"], {"min_sync": "nan"})
    assert read_config(TEMPLATES["b"]).min_loudness == -math.inf


def test_a_cache_that_was_not_measured_is_whole_but_cannot_be_chosen_from(pipe, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("jointdit.train.write_cache._find_measure", lambda: None)
    written = write_cache(pipe, find_recordings(folder / "videos"), tmp_path, SHAPE, workers=0)
    assert written.clips == len(LatentCache(tmp_path)) == 12 and not written.measured
    assert report_cache(tmp_path).lines()[1:] == ["       8  rain", "       4  a bell"]
    with pytest.raises(InputError, match="not measured.*min_sync.*evaluate"):
        LatentCache(tmp_path, Measures(sync=0.1))


def test_any_number_of_workers_and_any_size_of_shards_gives_the_same_clips(pipe, folder, cache, tmp_path):
    recordings, whole = find_recordings(folder / "videos"), LatentCache(cache)
    for workers, shard_bytes, shards in ((0, 2**30, 1), (3, 1, 3)):
        made = tmp_path / str(workers)
        write_cache(pipe, recordings, made, SHAPE, shard_bytes=shard_bytes, workers=workers)
        again = LatentCache(made)
        assert again.names == whole.names and len(read_shards(made)) == shards
        for name in ("video", "audio", "image_latents", "image_embeds"):
            ours, theirs = (getattr(each.batch(range(12)), name) for each in (again, whole))
            assert np.array_equal(ours, theirs), name


def test_a_recording_that_breaks_on_the_way_leaves_no_clip(pipe, tmp_path):
    broken = video(tmp_path / "videos" / "rain" / "a.mp4", seconds=4.0)
    broken.write_bytes(broken.read_bytes()[:-2000])  # the index comes first, so that the beginning can be read
    video(tmp_path / "videos" / "rain" / "b.mp4")
    clips = cut(find_recordings(tmp_path / "videos")[0], SHAPE, RATE)
    assert [next(clips).name for _ in range(6)][-1] == "rain/a.mp4#5", "it breaks after more than one list of clips"
    written = write_cache(pipe, find_recordings(tmp_path / "videos"), tmp_path / "cache", SHAPE)
    assert list(written.skipped) == ["rain/a.mp4"]
    assert LatentCache(tmp_path / "cache").names == ["rain/b.mp4#0", "rain/b.mp4#1"]
