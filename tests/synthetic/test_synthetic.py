"""Synthetic scenes: what is seen, what is heard and what is told are the same moments."""

import itertools
import json
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from jointdit.errors import InputError
from jointdit.synthetic import (
    COLOURED,
    EFFECTS,
    PictureSource,
    bundled_photos,
    procedural_picture,
    render_scene,
    suggested_effect,
    synthesize,
)
from jointdit.synthetic.captions import draw_caption
from jointdit.synthetic.effects import REGISTRY
from jointdit.synthetic.suggestion import COLOURS

CONTINUOUS = ("rain", "siren")
STRIKING = tuple(effect for effect in EFFECTS if effect not in CONTINUOUS)
FPS = 12.5


def first_frame(time: float, fps: float = FPS) -> int:
    return int(np.ceil(time * fps))


def change(frames: np.ndarray) -> np.ndarray:
    """Mean absolute change [T] from the frame before; zero for the first."""
    steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2, 3))
    return np.concatenate([[0], steps])


def test_there_are_enough_effects_and_both_kinds():
    assert len(EFFECTS) >= 8
    assert {name for name, effect in REGISTRY.items() if effect.continuous} == set(CONTINUOUS)


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_seed_gives_the_same_bytes_and_another_seed_another_scene(effect):
    one, again, other = (render_scene(seed, effect=effect) for seed in (5, 5, 6))
    assert one.frames.tobytes() == again.frames.tobytes() and one.audio.tobytes() == again.audio.tobytes()
    assert (one.caption, one.events, one.parameters) == (again.caption, again.events, again.parameters)
    assert one.frames.tobytes() != other.frames.tobytes() and one.audio.tobytes() != other.audio.tobytes()


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_scene_has_the_promised_form(effect):
    scene = render_scene(1, effect=effect)
    assert scene.effect == effect and scene.fps == Fraction(25, 2) and scene.sample_rate == 16_000
    assert scene.frames.shape == (20, 128, 128, 3) and scene.frames.dtype == np.uint8
    assert scene.audio.shape == (25_600,) and scene.audio.dtype == np.float32
    assert np.array_equal(scene.frames[0], scene.picture)
    assert np.abs(scene.audio).max() == pytest.approx(0.5, abs=1e-4)
    assert abs(scene.audio.mean()) < 1e-3
    assert np.abs(scene.audio[[0, -1]]).max() == 0
    json.dumps(scene.parameters)


@pytest.mark.parametrize("effect", STRIKING)
def test_events_keep_their_distance_and_vary_in_number(effect):
    counts, gaps = set(), []
    for seed in range(30):
        scene = render_scene(seed, effect=effect, height=16, width=16)
        shown = [first_frame(time) for time in scene.events]
        assert all(later - earlier >= 4 for earlier, later in itertools.pairwise(shown))
        assert shown[0] >= 2 and shown[-1] <= 19 and scene.events[-1] <= 1.6 - 0.06
        assert scene.curve is None
        counts.add(len(shown))
        gaps += np.diff(scene.events).tolist()
    assert counts == {1, 2, 3, 4}
    assert np.std(gaps) > 0.05


@pytest.mark.parametrize("effect", STRIKING)
def test_every_event_is_heard_at_once(effect):
    for seed in range(6):
        scene = render_scene(seed, effect=effect, height=16, width=16)
        for time in scene.events:
            start = int(np.ceil(time * scene.sample_rate))
            before, after = (
                np.square(scene.audio[part]).mean() for part in (slice(start - 32, start), slice(start, start + 32))
            )
            assert after > 5 * before


@pytest.mark.parametrize("effect", STRIKING)
def test_sound_is_nearly_silent_before_the_first_event_and_decays_after_each(effect):
    for seed in range(6):
        scene = render_scene(seed, effect=effect, height=16, width=16)
        first = int(scene.events[0] * scene.sample_rate)
        assert np.abs(scene.audio[: first - 16]).max() < 0.01
        for start, end in zip(scene.events, (*scene.events[1:], 1.6), strict=True):
            body = np.abs(scene.audio[int(start * 16_000) + 1 : int(end * 16_000)])
            fifth = len(body) // 5
            assert end - start < 0.2 or body[-fifth:].mean() < 0.5 * body[:fifth].mean()


@pytest.mark.parametrize("effect", STRIKING)
def test_the_largest_change_in_sight_is_at_events(effect):
    for seed in range(8):
        scene = render_scene(seed, effect=effect)
        steps = change(scene.frames)
        shown = [first_frame(time) for time in scene.events]
        assert steps[shown].min() > 8
        assert steps[shown].min() > np.delete(steps, shown).max()


@pytest.mark.parametrize("effect", CONTINUOUS)
def test_intensity_is_seen_and_heard(effect):
    for seed in range(6):
        scene = render_scene(seed, effect=effect)
        assert scene.events == () and scene.curve.shape == (20,) and scene.curve.dtype == np.float32
        assert scene.curve[0] == 0 and scene.curve.min() >= 0 and 0.6 < scene.curve.max() <= 1
        seen = np.abs(scene.frames - scene.picture.astype(np.float32)).mean((1, 2, 3))
        padded = np.pad(np.square(scene.audio), 640)
        loud = 10 * np.log10([padded[1280 * j : 1280 * (j + 1)].mean() + 1e-9 for j in range(20)])
        assert np.corrcoef(scene.curve, seen)[0, 1] > 0.7
        assert np.corrcoef(scene.curve, loud)[0, 1] > 0.8


@pytest.mark.parametrize("effect", EFFECTS)
def test_captions_are_many_and_tell_neither_time_nor_number(effect):
    rng = np.random.default_rng(0)
    captions = {draw_caption(rng, effect, REGISTRY[effect].draw(rng, 3).words()) for _ in range(400)}
    assert len(captions) >= 50
    forbidden = {
        "once",
        "twice",
        "then",
        "after",
        "second",
        "seconds",
        "times",
        "two",
        "three",
        "four",
        "first",
        "last",
    }
    for text in captions:
        assert not any(letter.isdigit() or letter in "{}" for letter in text)
        assert not forbidden & set(text.replace(",", " ").split())


def test_moments_do_not_depend_on_size_or_picture():
    small, large = (render_scene(3, effect="hammer", height=side, width=side) for side in (32, 64))
    plain = render_scene(3, effect="hammer", picture=np.full((40, 60, 3), 90, np.uint8), height=32, width=32)
    assert small.events == large.events == plain.events
    assert np.array_equal(small.audio, large.audio)


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize(
    "frames,fps,height,width",
    [(6, Fraction(10), 16, 16), (17, Fraction(24000, 1001), 40, 70), (60, Fraction(30), 50, 24)],
)
def test_any_size_and_rate(effect, frames, fps, height, width):
    scene = render_scene(2, effect=effect, frames=frames, fps=fps, height=height, width=width)
    assert scene.frames.shape == (frames, height, width, 3) and scene.fps == fps
    assert len(scene.audio) == round(frames / fps * 16_000)
    assert np.isfinite(scene.audio).all()


@pytest.mark.parametrize(
    "arguments,told",
    [
        ({"seed": -1}, "-1"),
        ({"effect": "earthquake"}, "earthquake"),
        ({"frames": 3}, "3"),
        ({"fps": Fraction(0)}, "0"),
        ({"fps": Fraction(100)}, "100"),
        ({"height": 4}, "4"),
        ({"picture": np.zeros((8, 8), np.uint8)}, r"\[8, 8\]"),
        ({"picture": np.zeros((8, 8, 3), np.float32)}, "float32"),
    ],
)
def test_bad_arguments_are_named(arguments, told):
    with pytest.raises(InputError, match=told):
        render_scene(**{"seed": 0} | arguments)


def test_pictures_are_varied():
    rng = np.random.default_rng(0)
    pictures = np.stack([procedural_picture(rng, 32, 48) for _ in range(40)]).astype(np.float32)
    assert pictures.shape == (40, 32, 48, 3)
    assert pictures.mean((1, 2)).std(0).min() > 25
    assert np.percentile(pictures.std((1, 2, 3)), 10) > 15


def test_source_mixes_crops_of_photos():
    photo = np.zeros((90, 120, 3), np.uint8)
    photo[..., 0] = 200
    source, rng = PictureSource([photo], procedural=0.0), np.random.default_rng(0)
    for _ in range(5):
        red, green, blue = source.draw(rng, 24, 40).reshape(-1, 3).mean(0)
        assert red > green + 50 and red > blue + 50
    with pytest.raises(InputError, match="1.5"):
        PictureSource([photo], procedural=1.5)


def test_bundled_photos_are_there_and_leave_out_the_judges():
    pytest.importorskip("skimage", reason="scikit-image comes with the extra 'train'")
    pytest.importorskip("sklearn", reason="scikit-learn comes with the extra 'train'")
    photos = bundled_photos()
    assert len(photos) >= 8 and all(photo.is_file() for photo in photos)
    assert not {"astronaut", "coffee", "chelsea", "rocket"} & {photo.stem for photo in photos}


def test_missing_photo_packages_name_the_extra(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    for name in [name for name in sys.modules if name.split(".")[0] in ("skimage", "sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match="pip install scikit-image"):
        bundled_photos()


def test_synthesize_writes_clips_and_their_truth(tmp_path):
    media = pytest.importorskip("jointdit.media", reason="PyAV is missing")
    done = []
    synthesize(tmp_path / "set", 2, 7, frames=10, size=(64, 48), effect="bell", progress=done.append)
    names = sorted(path.name for path in (tmp_path / "set").iterdir())
    assert names == ["000000.json", "000000.mp4", "000001.json", "000001.mp4"]
    assert done == [1, 2]
    truth = json.loads((tmp_path / "set" / "000001.json").read_text())
    scene = render_scene(8, frames=10, width=64, height=48, effect="bell")
    assert truth["events"] == list(scene.events) and truth["caption"] == scene.caption and truth["seed"] == 8
    assert Fraction(truth["fps"]) == scene.fps and truth["curve"] is None
    clip = media.read_clip(tmp_path / "set" / "000001.mp4")
    assert clip.frames.shape == scene.frames.shape
    assert np.abs(clip.frames.astype(float) - scene.frames).mean() < 12


def test_synthesize_names_what_it_cannot_use(tmp_path):
    with pytest.raises(InputError, match="clips=0"):
        synthesize(tmp_path, 0, 1)
    with pytest.raises(InputError, match="earthquake"):
        synthesize(tmp_path, 1, 1, effect="earthquake")
    with pytest.raises(InputError, match="no picture"):
        synthesize(tmp_path, 1, 1, photos=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_picture_suggests_the_effect_of_its_colour():
    assert {suggested_effect(np.full((4, 4, 3), colour, np.uint8)) for colour in COLOURS.values()} == set(EFFECTS)
    assert suggested_effect(np.full((4, 4, 3), (60, 120, 60), np.uint8)) == "ball", "grass"
    half = np.zeros((2, 2, 3), np.uint8)
    half[0] = 220
    assert suggested_effect(half) == suggested_effect(np.full((2, 2, 3), 110, np.uint8)), "the mean colour counts"


def test_every_effect_is_suggested_by_some_pictures():
    pytest.importorskip("skimage", reason="the photos of jointdit[train] are not installed")
    source, rng = PictureSource.from_files(bundled_photos()), np.random.default_rng(0)
    found = Counter(suggested_effect(source.draw(rng, 24, 24)) for _ in range(600))
    assert min(found[effect] for effect in EFFECTS) >= 12, found


@pytest.mark.parametrize("effect", COLOURED)
def test_a_chosen_colour_changes_nothing_but_what_is_seen_and_told_of_it(effect):
    drawn = render_scene(5, effect=effect)
    red, blue = (render_scene(5, effect=effect, colour=colour) for colour in ("red", "blue"))
    assert (red.parameters["colour"], blue.parameters["colour"]) == ("red", "blue")
    assert red.parameters | {"colour": "blue"} == blue.parameters
    assert red.caption.replace("red", "blue") == blue.caption
    assert red.audio.tobytes() == blue.audio.tobytes() == drawn.audio.tobytes()
    assert red.frames[0].tobytes() == blue.frames[0].tobytes()
    added = (red.frames[1:].astype(int) - blue.frames[1:]).sum((0, 1, 2))
    assert added[0] > 0 > added[2], "red has more of red and less of blue"


def test_a_colour_that_cannot_be_is_named():
    with pytest.raises(InputError, match="colour is 'mauve'"):
        render_scene(1, effect="ball", colour="mauve")
    with pytest.raises(InputError, match="colour red: no choice for rain; give an effect of ball, pendulum, fireworks"):
        render_scene(1, effect="rain", colour="red")
