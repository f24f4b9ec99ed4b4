"""What is painted is told from stains, grain from light and objects, and a colour by its name."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jointdit import JointDiTPipeline
from jointdit.evaluate.levels import errors_by_level, objects_by_level
from jointdit.evaluate.objects import OBJECTS, ObjectJudge, frames_with_object, stain, without_object
from jointdit.evaluate.painting import added_colour, calm_and_busy, fine_detail, grain
from jointdit.synthetic import Scene, render_scene
from jointdit.synthetic.effects.materials import COLOURS


def scene_of(effect: str, seed: int = 0) -> Scene:
    return render_scene(4000 + seed, effect=effect)


@pytest.mark.parametrize("effect", OBJECTS)
def test_a_scene_without_its_object_keeps_its_light_and_jolts(effect):
    scene = scene_of(effect)
    without = without_object(scene)
    shown = frames_with_object(scene, without)
    assert 2 <= len(shown) < len(scene.frames) and 0 not in shown
    moved = np.abs(without[1:].astype(float) - without[0]).mean((1, 2, 3))
    assert moved.max() > 3, "events are still seen"
    covered = np.abs(scene.frames[shown].astype(float) - without[shown]).max(-1) > 24
    assert covered.mean() < 0.45, "only the object and its glow are gone"


def test_a_stain_has_less_detail_than_the_object():
    rng, scene = np.random.default_rng(0), scene_of("ball")
    without = without_object(scene)
    frames = scene.frames.copy()
    for index in frames_with_object(scene, without):
        frames[index] = stain(scene.frames[index].astype(np.float32), without[index], rng).clip(0, 255)
    assert fine_detail(frames) < 0.8 * fine_detail(scene.frames)


@pytest.fixture(scope="module")
def judge() -> ObjectJudge:
    return ObjectJudge.trained(scenes=8, epochs=10)


def test_a_judge_of_objects_prefers_them_to_stains_and_to_nothing(judge):
    rng = np.random.default_rng(1)
    found: list[list[float]] = []
    for effect in OBJECTS:
        scene = scene_of(effect, seed=7)
        without = without_object(scene)
        index = frames_with_object(scene, without)
        stained = [stain(scene.frames[k].astype(np.float32), without[k], rng).clip(0, 255) for k in index]
        kinds = (scene.frames[index], np.stack(stained).astype(np.uint8), without[index])
        pictures = [np.concatenate([scene.picture[None], frames]) for frames in kinds]
        found.append([judge.probabilities(each)[1:, OBJECTS.index(effect)].mean() for each in pictures])
        assert not judge.sees(np.repeat(scene.picture[None], len(scene.frames), 0), effect)
    crisp, stained, nothing = np.mean(found, 0)
    assert crisp > 1.5 * stained and crisp > 1.5 * nothing, found


def test_grain_is_what_is_fine_apart_from_light_and_objects():
    picture = render_scene(1, effect="ball").picture.astype(np.float32)
    rng = np.random.default_rng(0)

    def clip(*frames: np.ndarray) -> np.ndarray:
        return np.stack([picture, *frames]).clip(0, 255).astype(np.uint8)

    noise = rng.normal(0, 6, picture.shape)
    brighter, covered = picture * 0.6 + 60, picture.copy()
    covered[40:70, 40:70] = (255, 0, 0)
    still, lit, with_object, grainy, more = grain(
        clip(picture, brighter, covered, picture + noise, picture + 2 * noise)
    )
    assert max(still, lit, with_object) < 1.0
    assert 3 < grainy < 6 and more == pytest.approx(2 * grainy, rel=0.2)
    assert calm_and_busy(clip(picture, picture + noise))[0] == still


def test_a_blurred_clip_has_less_fine_detail():
    frames = scene_of("bell").frames
    assert fine_detail(gaussian_filter(frames, (0, 2, 2, 0))) < 0.6 * fine_detail(frames)


def test_the_colour_of_what_was_added_is_named():
    scenes = [scene_of("ball", seed) for seed in range(24)]
    drawn = [scene.parameters["colour"] for scene in scenes]
    assert set(drawn) == set(COLOURS)
    assert np.mean([added_colour(scene.frames) == colour for scene, colour in zip(scenes, drawn, strict=True)]) >= 0.9


def test_errors_by_level_grow_with_the_noise():
    pipe = JointDiTPipeline.from_pretrained("tiny")
    found = errors_by_level(pipe, [scene_of("bell"), scene_of("siren")], least=10.0)
    assert found[0].sigma > found[-1].sigma >= 10
    assert 0.05 < found[-1].error < found[0].error < 1.1
    assert found[-1].where_most < found[-1].error


def test_with_hardly_any_noise_the_judge_sees_what_it_sees_in_the_scenes(judge):
    pipe = JointDiTPipeline.from_pretrained("tiny")
    scenes = [scene_of(effect, seed) for effect in ("bell", "ball") for seed in range(2)]
    found = objects_by_level(pipe, scenes, judge, (100.0, 0.002))
    seen = [judge.sees(scene.frames, scene.effect) for scene in scenes]
    assert list(found) == [100.0, 0.002]
    assert found[0.002] == {"all": np.mean(seen), "bell": np.mean(seen[:2]), "ball": np.mean(seen[2:])}
    assert found[100.0]["all"] < found[0.002]["all"], "an object is seen"
