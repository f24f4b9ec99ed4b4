"""Which clips a step sees, and that reading them ahead changes nothing."""

from __future__ import annotations

import gc
import json
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from jointdit.train import cache_index
from jointdit.train.batches import EpochOrder, ReadAhead
from jointdit.train.cache import PER_CLIP, TEXT, LatentCache
from jointdit.train.seeds import generator_of

ENCODING = {"frames": 2, "fps": "7", "height": 8, "width": 8, "noise_augmentation": 0.02, "weights": "x"}


def write_shards(folder: Path, count: int, rows: int = 2) -> None:
    """Shards as `write_cache` lays them out, of random tensors."""
    (folder / "cache.json").write_text(json.dumps(ENCODING))
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        tensors = {name: torch.randn(rows, 2, 3, 4, generator=generator).half() for name in PER_CLIP}
        for caption in range(2):
            length = 3 + (number + caption) % 2
            shapes = dict.fromkeys(TEXT, (3, 4)) | {"audio_embeds_1": (length, 4), "audio_mask_1": (length,)}
            for name, shape in shapes.items():
                tensors[f"text.{caption}.{name}"] = torch.randn(shape, generator=generator).half()
        names = [f"rain/{number:05d}.mp4#{row}" for row in range(rows)]
        described = {"clips": names, "captions": ["", "rain"], "caption": [1] * rows}
        described |= {"recordings": [f"rain/{number:05d}.mp4"], "skipped": {"rain/broken.mp4": "is broken"}}
        path = folder / f"shard-000-of-001-{number:05d}.safetensors"
        save_file(tensors, path, metadata={"shard": json.dumps(described)})


@pytest.fixture
def cache(tmp_path):
    write_shards(tmp_path, 4)
    return LatentCache(tmp_path)


def test_every_epoch_has_each_clip_once_in_the_order_of_its_seed():
    order = EpochOrder([3, 5, 7, 9, 11], batch=4, seed=1)
    steps = [order.numbers(step) for step in range(5)]
    seen = sum(steps, [])
    for epoch in range(4):
        drawn = torch.randperm(5, generator=generator_of("epoch", 1, epoch)).tolist()
        assert seen[5 * epoch :][:5] == [[3, 5, 7, 9, 11][place] for place in drawn]
    assert order.numbers(1) == steps[1], "any step can be asked for"
    assert sorted(EpochOrder([1, 2], batch=6, seed=0).numbers(0)) == [1, 1, 1, 2, 2, 2]


def test_a_step_does_not_draw_its_epoch_anew(monkeypatch):
    """A million clips take 0.26 s."""
    drawn, randperm = [], torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *args, **options: drawn.append(args) or randperm(*args, **options))
    order = EpochOrder(range(10), batch=4, seed=0)
    for step in range(5):
        order.numbers(step)
    assert drawn == [(10,)] * 2


def equal(one, two) -> bool:
    return all(
        torch.equal(value, vars(two)[name]) if isinstance(value, torch.Tensor) else equal(value, vars(two)[name])
        for name, value in vars(one).items()
    )


def test_reading_ahead_gives_what_the_cache_has_from_any_step_on(cache):
    order = EpochOrder(range(8), batch=4, seed=0)
    for first in (0, 3):  # the second as after a resume
        ahead = ReadAhead(cache, order.numbers, 6)
        for step in (first, first + 1, first + 1, first + 2):
            numbers = order.numbers(step)
            assert equal(ahead.batch(numbers, step), cache.batch(numbers))
            assert equal(ahead.batch(numbers[1:3], step), cache.batch(numbers[1:3])), "micro-batches"
            assert all(each < 6 for each in ahead._coming) and len(ahead._coming) <= 3


def test_what_fails_in_reading_is_raised_at_its_step_and_no_thread_stays(tmp_path):
    write_shards(tmp_path, 4)
    cache, before = LatentCache(tmp_path), threading.active_count()
    (tmp_path / "shard-000-of-001-00003.safetensors").unlink()
    ahead = ReadAhead(cache, lambda step: [2 * step], 4)
    for step in range(3):
        ahead.batch([2 * step], step)
    with pytest.raises(FileNotFoundError, match="00003|No such file"):
        ahead.batch([6], 3)
    del ahead
    gc.collect()
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_a_start_reads_the_index_alone_and_notices_what_changed(tmp_path, monkeypatch):
    write_shards(tmp_path, 3)
    names = LatentCache(tmp_path).names
    opened, describe = [], cache_index._describe
    monkeypatch.setattr(cache_index, "_describe", lambda path: opened.append(path.name) or describe(path))
    assert LatentCache(tmp_path).names == names and not opened

    write_shards(tmp_path, 4)
    (tmp_path / "shard-000-of-001-00001.safetensors").unlink()
    assert len(LatentCache(tmp_path)) == 6 and "shard-000-of-001-00003.safetensors" in opened
    opened.clear()
    assert len(LatentCache(tmp_path)) == 6 and not opened
    (tmp_path / "index.json").write_text("{")
    assert len(LatentCache(tmp_path)) == 6 and len(opened) == 3


def test_a_clip_that_two_shards_hold_counts_once(tmp_path):
    write_shards(tmp_path, 2)
    first = (tmp_path / "shard-000-of-001-00000.safetensors").read_bytes()
    (tmp_path / "shard-000-of-002-00000.safetensors").write_bytes(first)
    assert len(LatentCache(tmp_path)) == 4
