"""Measures: they find what is true of scenes, give nothing for chance, and are one command away."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jointdit import JointDiTPipeline
from jointdit.cli import main
from jointdit.evaluate import draw_sync, events_heard, events_seen, match_events, observe, sync_by_effect
from jointdit.evaluate.align import Curves, align_clips
from jointdit.evaluate.distance import Frechet, picture_windows, sound_windows
from jointdit.evaluate.effects import train_judges, weathered
from jointdit.evaluate.generated import draw_tasks
from jointdit.evaluate.picture import colour_drift, psnr
from jointdit.evaluate.prompts import FRESH_WORDS, UNSEEN_WORDS
from jointdit.evaluate.reconstruction import flutter, log_mel_error, pitch_errors
from jointdit.evaluate.scores import Corrected, Margin, share
from jointdit.evaluate.sync import CONTINUOUS
from jointdit.latents import ClipShape
from jointdit.media import Clip
from jointdit.synthetic import EFFECTS, Scene, render_scene, synthesize
from jointdit.synthetic.captions import draw_caption
from jointdit.synthetic.effects import REGISTRY
from jointdit.synthetic.suggestion import COLOURS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STRIKING = tuple(effect for effect in EFFECTS if effect not in CONTINUOUS)
FRAME = 0.08  # seconds
SEEDS = range(10, 14)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Four scenes of each effect, each with times of its own."""
    return [
        render_scene(100 * number + seed, effect=effect, height=32, width=32)
        for number, effect in enumerate(EFFECTS)
        for seed in SEEDS
    ]


@pytest.fixture(scope="module")
def curves(scenes: list[Scene]) -> list[Curves]:
    return [Curves.of(as_clip(scene)) for scene in scenes[::2] if scene.events]


def as_clip(scene: Scene) -> Clip:
    return Clip(scene.frames, scene.fps, scene.audio[None], scene.sample_rate)


def later(curves: Curves, frames: float) -> Curves:
    """The same clip with its sound delayed."""
    samples = round(frames / curves.fps * curves.sample_rate)
    audio = np.pad(curves.clip_audio, ((0, 0), (samples, 0)))[:, : curves.clip_audio.shape[1]]
    return replace(curves, clip_audio=audio, onsets=events_heard(audio, curves.sample_rate))


@pytest.mark.parametrize("sense", ["seen", "heard"])
def test_detectors_find_the_true_events_and_no_others(sense):
    """At least 98% of the events of all effects within a frame, 2% false ones, and a median within half a frame."""
    true = found = right = 0
    for effect in STRIKING:
        offsets = []
        for seed in range(12):
            scene = render_scene(5_000_000 + 100 * len(effect) + seed, effect=effect, height=48, width=48)
            truth = np.array(scene.events)
            if sense == "seen":
                events = events_seen(scene.frames, scene.fps)
            else:
                events = events_heard(scene.audio[None], scene.sample_rate)
            pairs = match_events(truth, events, FRAME)
            true, found, right = true + len(truth), found + len(events), right + len(pairs)
            offsets += list(events[pairs[:, 1]] - truth[pairs[:, 0]])
        assert abs(np.median(offsets)) < FRAME / 2
    assert true > 200 and right >= 0.98 * true and found - right <= 0.02 * found


def test_detectors_find_nothing_where_nothing_happens():
    still = np.full((12, 16, 16, 3), 90, np.uint8)
    noisy = still + np.random.default_rng(0).integers(0, 4, still.shape, np.uint8)
    assert len(events_seen(still, 12.5)) == len(events_seen(noisy, 12.5)) == 0
    for silence in (np.zeros((1, 16_000), np.float32), np.zeros((1, 0), np.float32)):
        assert len(events_heard(silence, 16_000)) == 0


def test_a_clip_that_flickers_all_the_time_has_only_its_flash():
    rng = np.random.default_rng(0)
    frames = rng.integers(80, 110, (20, 16, 16, 3)).astype(np.uint8)
    frames[12:] += (90 * 0.7 ** np.arange(8)).astype(np.uint8)[:, None, None, None]
    (seen,) = events_seen(frames, 12.5)
    assert seen == pytest.approx(11.5 / 12.5)


def test_an_onset_is_found_at_any_rate_and_level():
    for rate in (8_000, 16_000, 44_100):
        time = np.arange(rate) / rate
        tone = np.where(time < 0.6, 0.0, np.sin(2 * np.pi * 900 * time) * np.exp(-(time - 0.6) / 0.1))
        for gain in (0.5, 0.01):
            (found,) = events_heard(gain * tone[None].astype(np.float32), rate)
            assert found == pytest.approx(0.6, abs=0.03)


def test_events_are_matched_one_to_one():
    match = match_events(np.array([0.0, 0.5, 1.0]), np.array([0.02, 0.06, 0.9, 1.05, 1.2]), 0.1)
    assert match.tolist() == [[0, 0], [2, 2]]
    assert match_events(np.empty(0), np.array([1.0]), 0.1).shape == (0, 2)


def test_matching_finds_as_many_pairs_as_there_can_be():
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    rng = np.random.default_rng(0)
    for _ in range(50):
        seen, heard = np.sort(rng.random(6)), np.sort(rng.random(7))
        near = csr_array(np.abs(seen[:, None] - heard) <= 0.1)
        best = (maximum_bipartite_matching(near, perm_type="column") >= 0).sum()
        assert len(match_events(seen, heard, 0.1)) == best


def test_truth_scores_one_and_sound_of_others_scores_chance(scenes):
    clips = [observe(as_clip(scene), scene.effect) for scene in scenes]
    found = sync_by_effect(clips)
    assert set(found) == {*EFFECTS, "all"}
    for effect in STRIKING:
        assert found[effect].seen_heard.corrected == found[effect].heard_seen.corrected == 1
        assert abs(found[effect].offset_ms) < 40
    for effect in CONTINUOUS:
        assert found[effect].correlation.corrected > 0.8

    others = [
        replace(clip, heard=other.heard, loudness=other.loudness)
        for clip, other in zip(clips, clips[1:] + clips[:1], strict=True)
    ]
    low, high = sync_by_effect(others)["all"].seen_heard.interval
    assert low < 0 < high < 0.5

    single = sync_by_effect([clip for clip in clips if clip.effect == "ball"] + clips[-1:])
    assert single["all"].clips == 4 and np.isfinite(single["all"].seen_heard.corrected)

    mute = [replace(clip, heard=np.empty(0)) for clip in clips]
    assert sync_by_effect(mute)["all"].seen_heard.value == 0


def test_every_score_falls_as_the_sound_is_delayed(curves):
    scores = [align_clips([later(each, frames) for each in curves]) for frames in (0, 1.25, 1.5)]
    for name in ("onset_align", "motion_loudness"):
        margins = [getattr(score, name) for score in scores]
        assert margins[0].margin > margins[1].margin > margins[2].margin
        assert margins[0].interval[0] > 0.1


def test_shuffled_pairs_and_noise_score_nothing(curves):
    others = curves[5:] + curves[:5]
    shuffled = [
        replace(one, onsets=two.onsets, clip_audio=two.clip_audio) for one, two in zip(curves, others, strict=True)
    ]
    rng = np.random.default_rng(1)
    noise = [
        Curves.of(
            Clip(
                rng.integers(0, 255, (16, 16, 16, 3), np.uint8),
                Fraction(8),
                rng.uniform(-0.5, 0.5, (1, 16_000)).astype(np.float32),
                8_000,
            )
        )
        for _ in range(20)
    ]
    for clips in (shuffled, noise):
        scores = align_clips(clips)
        for margin in (scores.onset_align, scores.motion_loudness):
            assert margin.interval[0] < 0 < margin.interval[1]


@pytest.mark.parametrize("clips", [6, 40])
def test_intervals_hold_the_truth_as_often_as_they_say(clips):
    rng = np.random.default_rng(0)
    held = {"margin": 0, "corrected": 0, "share": 0}
    for _ in range(200):
        events = rng.integers(1, 5, clips)
        intervals = {
            "margin": (0.3, Margin.of(rng.normal(0.5, 1, clips), np.full(clips, 0.2)).interval),
            "corrected": (0.5, Corrected.of(rng.binomial(events, 0.6), 0.2 * events, events).interval),
            "share": (0.9, share(rng.random(clips) < 0.9)[1]),
        }
        for name, (true, (low, high)) in intervals.items():
            held[name] += low <= true <= high
    assert all(0.9 <= count / 200 <= 0.995 for count in held.values()), held
    assert share([True] * 8)[1][0] < 0.7, "eight of eight is not certainty"


@pytest.mark.parametrize("windows", [sound_windows, picture_windows])
def test_distance_tells_other_clips_from_more_of_the_same(scenes, windows):
    clips = [as_clip(scene) for scene in scenes]
    changed = [replace(clip, frames=clip.frames // 2, audio=clip.audio / 4) for clip in clips]
    one, two, other = ([windows(clip) for clip in each] for each in (clips[::2], clips[1::2], changed[1::2]))
    same, different = Frechet.of(one, two), Frechet.of(other, one)
    assert different.value - different.excess > same.value + 3
    assert Frechet.of(one, one).value == pytest.approx(0, abs=1e-3)


def test_distance_of_normal_sets_is_that_of_their_means_and_deviations():
    rng = np.random.default_rng(0)
    one = [rng.normal(0, 1, (50, 3)) for _ in range(200)]
    two = [rng.normal((1, 0, 0), (1, 2, 1), (50, 3)) for _ in range(200)]
    found = Frechet.of(one, two)
    assert found.value == pytest.approx(1 + (0.5 - 1) ** 2, rel=0.05)  # in deviations of the second set: 1, 2, 1
    assert abs(found.excess) < 0.01

    def few() -> list[np.ndarray]:
        return [rng.normal(0, 1, 16) + rng.normal(0, 1, (9, 16)) for _ in range(40)]

    alike = [Frechet.of(few(), few()) for _ in range(10)]
    excess = np.mean([each.excess for each in alike])
    assert excess == pytest.approx(np.mean([each.value for each in alike]), rel=0.3) and excess > 1


def test_what_is_left_of_a_sound_is_measured():
    time = np.arange(16_000) / 16_000

    def tone(hertz, gain=0.3):
        audio = (gain * np.sin(2 * np.pi * hertz * time)).astype(np.float32)[None]
        return Clip(np.zeros((10, 16, 16, 3), np.uint8), 10, audio, 16_000)

    cents = pitch_errors(tone(440 * 2 ** (30 / 1200)), tone(440))
    assert len(cents) > 10 and np.allclose(cents, 30, atol=0.5)
    assert log_mel_error(tone(440), tone(440)) == 0 < log_mel_error(tone(440, 0.15), tone(440)) < 6.1
    hiss = np.random.default_rng(0).normal(0, 0.1, (1, 16_000)).astype(np.float32)
    assert len(pitch_errors(tone(440), replace(tone(440), audio=hiss))) == 0
    wave = 1 + 0.4 * np.sin(2 * np.pi * 25 * time)
    faded = np.exp(-3 * time, dtype=np.float32) * tone(440).audio
    for audio, depth in ((faded, 0), (np.float32(wave) * faded, 0.4)):
        assert flutter(replace(tone(440), audio=audio)) == pytest.approx(depth, abs=0.03)
    assert np.isnan(flutter(replace(tone(440), audio=np.zeros_like(hiss))))


def test_judges_name_effects_and_state_their_own_accuracy(scenes):
    effects = ("lightning", "pendulum", "rain")
    for judge in train_judges(effects, train=6, held_out=3):
        shown = [scene for scene in scenes if scene.effect in effects]
        named = judge.name([as_clip(scene) for scene in shown])
        assert np.mean([name == scene.effect for name, scene in zip(named, shown, strict=True)]) > 0.8
        assert judge.accuracy > 0.8 and set(judge.by_effect) == set(effects)


def test_the_judge_of_pictures_sees_what_is_painted_faintly(scenes):
    effects = ("lightning", "heartbeat", "siren")
    _, judge = train_judges(effects, train=6, held_out=1)
    rng = np.random.default_rng(0)
    shown = [scene for scene in scenes if scene.effect in effects]
    faint = [weathered(as_clip(scene), rng) for scene in shown]
    for scene, clip in zip(shown, faint, strict=True):
        change = [np.abs(frames - frames[:1].astype(float)).mean() for frames in (scene.frames, clip.frames)]
        assert clip.frames.shape == scene.frames.shape and change[1] < 1.2 * change[0] + 15
    assert np.mean(np.array(judge.name(faint)) == [scene.effect for scene in shown]) > 0.8


def test_the_sound_alone_decides_for_the_judge_of_sound(scenes):
    sound, pictures = train_judges(("lightning", "pendulum"), train=6, held_out=2)
    storm, clock = (
        next(as_clip(scene) for scene in scenes if scene.effect == name) for name in ("lightning", "pendulum")
    )
    mixed = replace(storm, audio=clock.audio)
    assert sound.name([mixed]) == ["pendulum"] and pictures.name([mixed]) == ["lightning"]


@pytest.mark.parametrize("words", [UNSEEN_WORDS, FRESH_WORDS])
def test_unseen_words_are_in_no_caption(words):
    rng = np.random.default_rng(0)
    captions = {
        draw_caption(rng, effect, REGISTRY[effect].draw(rng, 3).words()) for effect in EFFECTS for _ in range(300)
    }
    known = {word for caption in captions for word in re.findall(r"\w+", caption)}
    little = {"a", "an", "the", "of", "in", "at", "with", "and", "on", "s"}
    assert set(words) == set(EFFECTS)
    for prompts in words.values():
        assert len(prompts) >= 3
        assert not {word for prompt in prompts for word in re.findall(r"\w+", prompt)} & (known - little)


def test_without_a_prompt_the_picture_says_what_is_asked_for():
    shape = ClipShape(frames=10, fps=Fraction(10), height=32, width=32)
    photos = [np.full((32, 32, 3), COLOURS[effect], np.uint8) for effect in ("siren", "bell")]
    asked = [task.asked for task in draw_tasks(2, 0, shape, ("rain", "ball"), "none", photos)]
    assert asked == ["siren", "bell"]
    asked = [task.asked for task in draw_tasks(2, 0, shape, ("rain", "ball"), "captions", photos)]
    assert asked == ["rain", "ball"]


def test_picture_scores_are_those_of_the_definition():
    one, two = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 110, np.uint8)
    assert psnr(one, two) == psnr(two, one) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(one, one) == float("inf")
    frames = np.stack([one, one, one])
    frames[2, ..., 0] += 6
    frames[2, ..., 2] -= 3
    assert colour_drift(frames) == (6, 0, -3)


def test_the_plot_marks_hits_only_where_there_are(scenes):
    clip = as_clip(next(scene for scene in scenes if scene.effect == "hammer"))
    green = [
        (draw_sync(each) == (0x2F, 0x9E, 0x44)).all(-1).sum() for each in (clip, replace(clip, audio=0 * clip.audio))
    ]
    assert green[0] > 50 and green[1] == 0


def test_a_folder_of_clips_is_measured(tmp_path, capsys):
    synthesize(tmp_path / "clips", 4, 3, frames=10, size=(32, 32))
    Clip(np.zeros((6, 32, 32, 3), np.uint8), Fraction(6), np.zeros((1, 0), np.float32), 16_000).save(
        tmp_path / "clips" / "mute.webm"
    )
    files = {name: str(tmp_path / name) for name in ("out.json", "out.png", "plots")}
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"not a video")
    options = ["--json", files["out.json"], "--plot", files["out.png"], "--plots", files["plots"]]
    options += ["--reference", str(tmp_path / "clips")]
    assert main(["evaluate", str(tmp_path / "clips"), "--quiet", *options]) == 0
    table = capsys.readouterr().out
    assert "too few to rank" in table and "mute.webm: no sound" in table
    published = all(map(find_spec, ("cv2", "librosa")))  # the extra av-align
    assert "onset alignment" in table and ("AV-Align" in table) == published, "another flow and other onsets"
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["align"].keys() == {"clips", "onset_align", "motion_loudness"}
    assert report["align"]["clips"] == 4 and set(report["skipped"]) == {"mute.webm", "broken.mp4"}
    assert report["sound_distance"]["value"] == pytest.approx(0, abs=1e-3)
    assert report["sync"]["all"]["seen_heard"]["value"] > 0.8, "synthetic scenes are known by the JSON beside them"
    low, high = report["align"]["motion_loudness"]["interval"]
    assert low <= report["align"]["motion_loudness"]["margin"] <= high
    assert Image.open(tmp_path / "out.png").size > (300, 200)
    assert len(list((tmp_path / "plots").glob("*.png"))) == 4
    assert main(["evaluate", str(tmp_path / "clips"), "--quiet", "--match", "00000[01]*"]) == 0
    assert "clips: 2," in capsys.readouterr().out


def test_a_model_is_measured_and_goes_on_where_it_was_stopped(tmp_path, capsys):
    command = ["evaluate", "--model", "tiny", "--effect", "hammer", "--steps", "1", "--seed", "7", "--quiet"]
    command += ["--judge-scenes", "2", "--keep", str(tmp_path / "clips"), "--json", str(tmp_path / "out.json")]
    assert main([*command, "--clips", "2", "--batch", "1"]) == 0
    assert "first frame" in capsys.readouterr().out
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["clips"] == 2 and report["seed"] == 7 and report["guidance"]
    assert report["truth_sync"]["hammer"]["seen_heard"]["value"] > 0.5
    assert 0 <= report["sound"]["right"] <= 1 and 0 <= report["sound"]["held_out"] <= 1
    assert report["picture"]["psnr_autoencoder"] > 15

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "clips").glob("*.mp4")}
    assert main([*command, "--clips", "3", "--batch", "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == len(kept) + 1 == 3
    capsys.readouterr()
    assert main([*command, "--clips", "2", "--batch", "1", "--prompts", "unseen"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_the_benchmark_goes_on_shares_clips_and_makes_the_table(tmp_path, monkeypatch, capsys):
    pipe = JointDiTPipeline.from_pretrained("tiny")
    pipe.defaults = replace(pipe.defaults, frames=6, height=32, width=32, steps=1, audio_substeps=1)
    pipe.save_pretrained(tmp_path / "model")
    spec = importlib.util.spec_from_file_location("bundled_model", BENCHMARKS / "bundled_model.py")
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, benchmark)
    spec.loader.exec_module(benchmark)

    def run(rows: str) -> list[str]:
        command = ["", "--model", str(tmp_path / "model"), "--json", str(tmp_path / "out.json"), "--clips", "2"]
        command += ["--judge-scenes", "2", "--work", str(tmp_path / "work"), "--photos", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", [*command, "--rows", rows])
        benchmark.main()
        return capsys.readouterr().out.splitlines()

    def made() -> dict:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.mp4")}

    assert any(line.startswith("| **as it is** | 20 |") for line in run("main"))
    before = made()
    assert len(before) == 40, "clips and truths"
    table = run("main,substeps-1")
    assert made() == before, "the model's own sub-steps are those of the row"
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in table if line.startswith("| ")}
    assert rows["| audio sub-steps: 1"] == rows["| **as it is**"]
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["rows"]["main"]["settings"]["steps"] == 1 and report["model"]["weights"]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "FOLDER"),
        (["clips", "--model", "tiny"], "FOLDER"),
        (["nowhere"], "nowhere"),
        (["."], "0 videos"),
        (["--model", "tiny", "--effect", "earthquake"], "earthquake"),
        (["--model", "tiny", "--clips", "1"], "--clips 1"),
        (["--model", "tiny", "--photos", "."], "no picture"),
        (["--model", "tiny", "--match", "*"], "--match"),
        ([".", "--clips", "3"], "--clips"),
        (["nowhere", "--json", "missing/out.json"], "missing/out.json"),
    ],
    ids=str,
)
def test_bad_input_takes_one_line(argv, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and told in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("jointdit.evaluate")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(["evaluate", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "scikit-learn" in err and "jointdit[evaluate]" in err and err.count("\n") == 1


def test_help_loads_nothing_heavy(tmp_path):
    code = (
        "import contextlib, sys, jointdit.cli\n"
        "with contextlib.suppress(SystemExit): jointdit.cli.main(['evaluate', '-h'])\n"
        "assert not {'numpy', 'torch', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=120)
