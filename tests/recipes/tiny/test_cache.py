"""The cache of latents: finished shards stay, work is shared, what is missing is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from jointdit.errors import InputError
from jointdit.recipes.tiny.cache import CachedScenes, CachedSounds, load_cache, write_shards, write_sounds
from jointdit.recipes.tiny.recipe import Cache
from jointdit.synthetic.effects.materials import COLOURS


def test_what_is_finished_is_kept(recipe, codecs):
    files = list((recipe.runs / "latents").iterdir())
    before = [path.stat() for path in files]
    write_shards(recipe, *codecs)
    write_sounds(recipe, codecs[1])
    assert [path.stat() for path in files] == before and len(files) == 3


def test_two_processes_make_what_one_makes(recipe, codecs, tmp_path):
    for part in (1, 0):
        cache = Cache(clips=6, seed=5, clips_per_shard=4, clips_per_twins=1, part=(part, 2))
        write_shards(replace(recipe, runs=tmp_path, cache=cache), *codecs)
    one, two = (CachedScenes.load(folder / "latents", 2) for folder in (recipe.runs, tmp_path))
    assert one.captions == two.captions and one.effects == two.effects
    assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in ("video", "audio", "image", "picture"))


def test_latents_are_packed_and_pictures_of_the_encoders_size(recipe):
    coarse, _ = load_cache(replace(recipe, architecture=replace(recipe.architecture, latents_per_position=2)))
    assert coarse.video.shape == (31, 8, 16, 4, 4) and coarse.image.shape == (31, 16, 4, 4)
    scenes, sounds = load_cache(recipe)
    assert scenes.video.shape == (31, 8, 4, 8, 8) and scenes.image.shape == (31, 4, 8, 8)
    assert scenes.picture.shape == (31, 3, 32, 32) and scenes.picture.dtype == torch.uint8
    assert len(sounds.captions) == len(sounds.audio) == 6


def test_twins_differ_in_a_named_colour_alone(recipe):
    scenes, _ = load_cache(recipe)
    assert scenes.single == 7 and scenes.twins.tolist()[0] == [7, 8, 9, 10] and len(scenes.twins) == 6
    words = [set(scenes.captions[row].split()) for row in range(7, 11)]
    colours = [each - set.intersection(*words) for each in words]
    assert all(len(each) == 1 and each < COLOURS.keys() for each in colours) and len(set.union(*colours)) == 4
    assert len({scenes.effects[row] for row in range(7, 11)}) == 1
    for name in ("audio", "image", "picture"):
        assert all(torch.equal(getattr(scenes, name)[7], getattr(scenes, name)[row]) for row in range(8, 11))
    assert not torch.equal(scenes.video[7], scenes.video[8])
    assert torch.equal(scenes.video[7, 0], scenes.video[8, 0]), "the picture"


def test_a_missing_cache_says_what_makes_it(tmp_path):
    with pytest.raises(InputError, match="tiny cache"):
        CachedScenes.load(tmp_path, 2)
    with pytest.raises(InputError, match="tiny cache"):
        CachedSounds.load(tmp_path)


@pytest.mark.parametrize("part", [(2, 2), (-1, 3)])
def test_a_part_that_there_is_not_is_named(part):
    with pytest.raises(InputError, match=f"part {part[0]}/{part[1]}"):
        Cache(part=part)
