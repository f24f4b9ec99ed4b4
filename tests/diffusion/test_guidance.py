"""JointCFG on the real model: the formulas, and what they cost."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, replace

import pytest
import torch
from gaussian_model import clock
from tiny_models import LATENT, conditioning, joint_model

from jointdit.diffusion.denoiser import JointDenoiser, Pass
from jointdit.diffusion.guidance import DEFAULTS, GuidedDenoiser, JointCFG
from jointdit.encoders.conditioning import without_image
from jointdit.errors import InputError
from jointdit.latents import JointLatents

FRAMES = 3
CONDITIONS = conditioning(1)
NEGATIVE = without_image(conditioning(1, seed=4))
PICTURE = conditioning(1, seed=6)


@pytest.fixture(scope="module")
def joint() -> JointDenoiser:
    return JointDenoiser(joint_model(open_gates=True), clock())


@pytest.fixture(scope="module")
def state() -> JointLatents:
    generator = torch.Generator().manual_seed(5)
    return JointLatents(
        torch.randn(1, FRAMES, LATENT, 8, 8, generator=generator) * 3,
        torch.randn(1, LATENT, 12, 16, generator=generator) * 3,
    )


LEVELS = clock().levels(torch.tensor([2.0]), torch.tensor([600.0]))


@pytest.fixture(scope="module")
def predictions(joint, state) -> dict[str, JointLatents]:
    """Every prediction by itself."""
    passes = {
        "c": Pass(CONDITIONS),
        "none": Pass(NEGATIVE),
        "iso_c": Pass(CONDITIONS, isolated=True),
        "iso_none": Pass(NEGATIVE, isolated=True),
        "picture": Pass(PICTURE),
        "iso_picture": Pass(PICTURE, isolated=True),
    }
    with torch.no_grad():
        return {name: joint.denoise(state, LEVELS, [each])[0][0] for name, each in passes.items()}


def guide(joint: JointDenoiser, state: JointLatents, guidance: JointCFG) -> JointLatents:
    with torch.no_grad():
        return guidance.denoiser(joint, CONDITIONS, NEGATIVE)(state, LEVELS)[0]


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=1e-4)


def test_each_mode_is_its_formula(joint, state, predictions):
    c, none, iso_c, iso_none = (predictions[name] for name in ("c", "none", "iso_c", "iso_none"))
    none_mode = guide(joint, state, JointCFG(mode="none"))
    close(none_mode.video, c.video)
    close(none_mode.audio, c.audio)
    cfg = guide(joint, state, JointCFG(mode="cfg", video_scale=3.0, audio_scale=2.0))
    close(cfg.video, none.video + 3 * (c.video - none.video))
    close(cfg.audio, none.audio + 2 * (c.audio - none.audio))
    plain = guide(joint, state, JointCFG(mode="joint-cfg", video_joint_scale=3.0, audio_joint_scale=2.0))
    close(plain.video, iso_none.video + 3 * (c.video - iso_none.video))
    close(plain.audio, iso_none.audio + 2 * (c.audio - iso_none.audio))
    star = JointCFG("joint-cfg-star", video_scale=3.0, audio_scale=2.0, video_joint_scale=1.5, audio_joint_scale=4.0)
    star = guide(joint, state, star)
    video = iso_none.video + 3 * (iso_c.video - iso_none.video) + 1.5 * (c.video - iso_c.video)
    audio = iso_none.audio + 2 * (iso_c.audio - iso_none.audio) + 4 * (c.audio - iso_c.audio)
    close(star.video, video)
    close(star.audio, audio)
    assert (plain.audio - star.audio).abs().max() > 1e-2 < (plain.audio - cfg.audio).abs().max()


def test_joint_cfg_star_with_both_scales_equal_is_joint_cfg(joint, state):
    star = guide(joint, state, JointCFG("joint-cfg-star", video_scale=2.5, audio_scale=2.5, joint_scale=2.5))
    plain = guide(joint, state, JointCFG("joint-cfg", joint_scale=2.5))
    close(star.video, plain.video)
    close(star.audio, plain.audio)


def test_isolated_guidance_is_that_of_the_isolated_predictions(joint, state, predictions):
    iso_c, iso_none = predictions["iso_c"], predictions["iso_none"]
    for guidance in (JointCFG("cfg", video_scale=3, audio_scale=2), JointCFG("joint-cfg-star", 3, 2, 4)):
        with torch.no_grad():
            found, _ = GuidedDenoiser(joint, guidance, CONDITIONS, NEGATIVE, isolated=True)(state, LEVELS)
        rising = torch.linspace(guidance.scales["video_scale_start"], 3, FRAMES).reshape(-1, 1, 1, 1)
        close(found.video, iso_none.video + rising * (iso_c.video - iso_none.video))
        close(found.audio, iso_none.audio + 2 * (iso_c.audio - iso_none.audio))


def test_video_scale_rises_over_frames(joint, state, predictions):
    c, none = predictions["c"].video, predictions["none"].video
    ours = guide(joint, state, JointCFG("cfg", video_scale_start=1.0, video_scale=4.0, audio_scale=1.0)).video
    for frame, scale in enumerate((1.0, 2.5, 4.0)):
        close(ours[:, frame], (none + scale * (c - none))[:, frame])


@pytest.mark.parametrize(
    ("guidance", "rows", "stems"),
    [
        (JointCFG("none"), 1, 1),
        (JointCFG("cfg", video_scale=1, audio_scale=1), 1, 1),
        (JointCFG("joint-cfg", joint_scale=1), 1, 1),
        (JointCFG("joint-cfg-star", video_scale=1, audio_scale=1, joint_scale=1), 1, 1),
        (JointCFG("cfg", video_scale=3, audio_scale=1), 2, 2),
        (JointCFG("joint-cfg"), 2, 2),
        (JointCFG("joint-cfg", video_joint_scale=1, audio_joint_scale=3), 1, 1),
        (JointCFG("joint-cfg-star", video_scale=1, audio_scale=3.5, joint_scale=1), 1, 1),
        (JointCFG("joint-cfg-star", video_scale=2, audio_scale=2, joint_scale=2), 2, 2),
        (JointCFG("joint-cfg-star", video_scale=1, audio_scale=1, joint_scale=3), 2, 1),
        (JointCFG("joint-cfg-star"), 3, 2),
        (JointCFG("joint-cfg-star", interval=(0.5, 1.9)), 1, 1),
        (JointCFG("joint-cfg-star", interval=(0.5, 2.1)), 3, 2),
    ],
)
def test_neutral_scales_cost_nothing_and_in_is_shared(joint, state, guidance, rows, stems):
    with counted(joint) as seen:
        guide(joint, state, guidance)
    assert seen == {"stems": stems, "rows": rows}


@pytest.mark.parametrize(
    ("guidance", "rows"),
    [
        (JointCFG("none"), 1),
        (JointCFG("cfg"), 2),
        (JointCFG("joint-cfg"), 2),
        (JointCFG("joint-cfg-star"), 2),
        (JointCFG("joint-cfg-star", video_scale=1, audio_scale=1, joint_scale=3), 1),
        (JointCFG("joint-cfg-star", video_scale=1, audio_scale=3.5, joint_scale=3), 1),
        (JointCFG("cfg", video_scale=1, audio_scale=3.5), 1),
    ],
)
def test_in_an_isolated_run_no_prediction_is_computed_twice(joint, state, predictions, guidance, rows):
    scales = guidance.scales
    audio = scales.get("audio_scale", scales.get("audio_joint_scale", 1.0))
    last = scales.get("video_scale", scales.get("video_joint_scale", 1.0))
    video = torch.linspace(scales.get("video_scale_start", 1.0), last, FRAMES).reshape(-1, 1, 1, 1)
    with torch.no_grad(), counted(joint) as seen:
        found, _ = GuidedDenoiser(joint, guidance, CONDITIONS, NEGATIVE, isolated=True)(state, LEVELS)
    assert seen["rows"] == rows
    c, none = predictions["iso_c"], predictions["iso_none"]
    close(found.video, none.video + video * (c.video - none.video))
    close(found.audio, none.audio + audio * (c.audio - none.audio))


@pytest.mark.parametrize("mode", ["cfg", "joint-cfg", "joint-cfg-star"])
@pytest.mark.parametrize("isolated", [False, True])
def test_the_prompts_scale_adds_what_the_prompt_changes_in_the_video(joint, state, predictions, mode, isolated):
    c, picture = (predictions[f"iso_{name}" if isolated else name].video for name in ("c", "picture"))
    guidance = JointCFG(mode, video_rescale=1.0)
    scaled = replace(guidance, video_prompt_scale=2.5, interval=(1, 9), prompt_interval=(1.5, 9))
    runs = {
        name: GuidedDenoiser(joint, each, CONDITIONS, NEGATIVE, PICTURE, isolated)
        for name, each in {
            "without": guidance,
            "with": scaled,
            "outside": replace(scaled, prompt_interval=(3, 9)),
            "no guidance": replace(scaled, interval=(3, 9)),
        }.items()
    }
    runs["no prompt"] = GuidedDenoiser(joint, scaled, CONDITIONS, NEGATIVE, isolated=isolated)
    found, rows = {}, {}
    for name, run in runs.items():
        with torch.no_grad(), counted(joint) as seen:
            found[name] = run(state, LEVELS)[0]
        rows[name] = seen["rows"]
    close(found["with"].video, found["without"].video + 1.5 * (c - picture))
    close(found["with"].audio, found["without"].audio)
    assert torch.equal(found["outside"].video, found["without"].video)
    assert torch.equal(found["no prompt"].video, found["without"].video)
    assert (
        rows["with"] == rows["without"] + 1 == rows["outside"] + 1 == rows["no prompt"] + 1 and rows["no guidance"] == 1
    )


def test_an_estimate_of_the_audio_again_is_as_without_the_prompts_scale(joint, state):
    found = []
    for scale in (1.0, 3.0):
        guidance = JointCFG("joint-cfg", video_prompt_scale=scale)
        denoise = GuidedDenoiser(joint, guidance, CONDITIONS, NEGATIVE, PICTURE)
        with torch.no_grad():
            found.append(denoise(state, LEVELS, keep=True)[1](state.audio, LEVELS))
    close(*found)


@contextmanager
def counted(joint):
    """How many rows the first and the last layer of the video expert had at last."""
    seen = {}
    unet = joint.model.video_unet
    hooks = [
        layer.register_forward_hook(lambda _, args, out, name=name: seen.__setitem__(name, len(out) // FRAMES))
        for name, layer in (("stems", unet.conv_in), ("rows", unet.conv_out))
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def test_rescale_brings_the_deviation_back(joint, state, predictions):
    scales = {"video_scale": 4.0, "audio_scale": 4.0}
    plain, half, whole = (guide(joint, state, JointCFG("cfg", rescale=r, **scales)) for r in (0.0, 0.5, 1.0))
    for name in ("video", "audio"):
        target, before, after = (getattr(each, name) for each in (predictions["c"], plain, whole))
        torch.testing.assert_close(after.std(), target.std(), atol=0, rtol=1e-4)
        close(after / after.std(), before / before.std())
        close(getattr(half, name), (before + after) / 2)


def test_the_video_may_be_rescaled_alone_and_nothing_changes_where_it_is_not_guided(joint, state):
    scales = {"video_scale": 4.0, "audio_scale": 4.0}
    plain, both, video = (
        guide(joint, state, JointCFG("cfg", **scales, **rescale))
        for rescale in ({}, {"rescale": 1.0}, {"video_rescale": 1.0})
    )
    assert torch.equal(video.video, both.video) and torch.equal(video.audio, plain.audio)
    assert not torch.equal(video.video, plain.video)
    for rescale in (0.7, 1.0):
        sound = {"video_joint_scale": 1.0, "audio_joint_scale": 2.5}
        unguided, rescaled = (
            guide(joint, state, JointCFG("joint-cfg", **sound, video_rescale=each)) for each in (None, rescale)
        )
        assert torch.equal(unguided.video, rescaled.video) and torch.equal(unguided.audio, rescaled.audio)


def test_substeps_are_guided_alike(joint, state):
    denoise = JointCFG("joint-cfg-star").denoiser(joint, CONDITIONS, NEGATIVE)
    with torch.no_grad():
        estimate, audio_again = denoise(state, LEVELS, keep=True)
        torch.testing.assert_close(audio_again(state.audio, LEVELS), estimate.audio, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "magic"}, "'magic': give one of none, cfg, joint-cfg, joint-cfg-star"),
        ({"video_scale": float("nan")}, "video_scale nan"),
        ({"audio_scale": float("inf")}, "audio_scale inf"),
        ({"video_scale": 1e9}, "from 0 to 100"),
        ({"joint_scale": -1.0}, "joint_scale -1.0"),
        ({"video_scale_start": -0.5}, "video_scale_start -0.5"),
        ({"mode": "cfg", "joint_scale": 2.0}, "joint_scale 2.0: guidance mode cfg has none"),
        ({"mode": "joint-cfg", "video_scale": 2.0}, "video_scale 2.0: guidance mode joint-cfg has none"),
        ({"rescale": 1.5}, "rescale 1.5"),
        ({"rescale": float("nan")}, "rescale nan"),
        ({"video_rescale": -0.1}, "video_rescale -0.1"),
        ({"interval": (3.0, 1.0)}, r"interval \(3.0, 1.0\)"),
        ({"interval": (0.0, float("nan"))}, "nan"),
        ({"interval": (3.0,)}, r"interval \(3.0,\)"),
        ({"prompt_interval": (3.0, 1.0)}, r"prompt_interval \(3.0, 1.0\)"),
        ({"mode": "none", "video_prompt_scale": 2.0}, "video_prompt_scale 2.0: guidance mode none has none"),
    ],
)
def test_bad_values_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        JointCFG(**arguments)


def test_what_is_left_out_is_the_modes_default():
    for mode, defaults in DEFAULTS.items():
        assert JointCFG(mode).scales == defaults
    given = {"video_scale_start": 2.0, "video_scale": 2.0, "audio_scale": 3.5, "video_prompt_scale": 1.0}
    assert JointCFG("cfg", video_scale=2.0).scales == given
    shared = JointCFG("joint-cfg-star", joint_scale=4.0, audio_joint_scale=1.0).scales
    assert (shared["video_joint_scale"], shared["audio_joint_scale"]) == (4.0, 1.0)
    assert {name for scales in DEFAULTS.values() for name in scales} <= {field.name for field in fields(JointCFG)}


def test_guidance_needs_something_to_guide_away_from(joint):
    with pytest.raises(ValueError, match="joint-cfg needs the negative"):
        JointCFG("joint-cfg").denoiser(joint, CONDITIONS)


def test_a_models_own_guidance_is_varied_by_what_the_user_says():
    own = JointCFG("joint-cfg-star", video_scale=1.5, audio_scale=2, video_joint_scale=1, audio_joint_scale=3)
    assert own.changed(joint_scale=2).scales == own.scales | {"video_joint_scale": 2, "audio_joint_scale": 2}
    assert own.changed(audio_scale=1).scales == own.scales | {"audio_scale": 1}
    assert own.changed(mode="cfg", audio_scale=1) == JointCFG("cfg", video_scale=1.5, audio_scale=1)
    rising = JointCFG("cfg", video_scale_start=1, video_scale=3)
    assert rising.changed(video_scale=2).scales["video_scale_start"] == 2


def test_another_mode_starts_from_the_models_own_scales():
    own = JointCFG("joint-cfg", video_joint_scale=1, audio_joint_scale=2.5, interval=(0.1, 50), rescale=0.5)
    own = replace(own, video_prompt_scale=2, prompt_interval=(10, 50))
    cfg, star, none = (own.changed(mode=mode) for mode in ("cfg", "joint-cfg-star", "none"))
    assert cfg.scales == {"video_scale_start": 1, "video_scale": 1, "audio_scale": 2.5, "video_prompt_scale": 2}
    assert {each.prompt_interval for each in (cfg, star, none)} == {(10, 50)}
    assert star.scales == cfg.scales | {"video_joint_scale": 1, "audio_joint_scale": 2.5}
    assert {each.interval for each in (cfg, star, none)} == {(0.1, 50)} and star.rescale == 0.5
    assert own.changed(mode="joint-cfg-star", joint_scale=2).scales == star.scales | {
        "video_joint_scale": 2,
        "audio_joint_scale": 2,
    }
    assert cfg.changed(mode="joint-cfg").scales == own.scales
    assert star.changed(mode="joint-cfg", video_joint_scale=3).scales["audio_joint_scale"] == 2.5
    rising = JointCFG("cfg", video_scale_start=1, video_scale=3).changed(mode="joint-cfg").scales
    assert (rising["video_scale_start"], rising["video_joint_scale"]) == (1, 3)
    for mode, defaults in DEFAULTS.items():  # of a model that says nothing
        assert JointCFG().changed(mode=mode).scales == defaults
    with pytest.raises(InputError, match="'magic'"):
        own.changed(mode="magic")


def test_joint_cfg_star_from_joint_cfgs_scales_is_the_same_estimate(joint, state):
    own = JointCFG("joint-cfg", video_joint_scale=1, audio_joint_scale=2.5)
    plain, star = guide(joint, state, own), guide(joint, state, own.changed(mode="joint-cfg-star"))
    assert torch.equal(star.video, plain.video) and torch.equal(star.audio, plain.audio)


def test_scales_beyond_a_models_range_are_named_in_one_line(caplog):
    JointCFG("joint-cfg-star", video_scale=1, audio_scale=4, joint_scale=2).warn_beyond(1, 4)
    assert not caplog.records
    JointCFG("joint-cfg-star", video_scale=2, audio_scale=10, joint_scale=0.5).warn_beyond(1, 4)
    (line,) = caplog.messages
    assert "audio_scale 10, video_joint_scale 0.5, audio_joint_scale 0.5: " in line and "from 1 to 4" in line


def test_what_a_given_guidance_leaves_out_is_the_models_own():
    own = JointCFG("joint-cfg", video_joint_scale=1, audio_joint_scale=2.5)
    assert JointCFG("cfg").filled_from(own) == own.changed(mode="cfg")
    some = JointCFG("joint-cfg-star", video_joint_scale=1.5, rescale=0.7, interval=(0, 9)).filled_from(own)
    assert some.scales == own.changed(mode="joint-cfg-star").scales | {"video_joint_scale": 1.5}
    assert (some.rescale, some.interval) == (0.7, (0, 9))
    assert JointCFG("joint-cfg", joint_scale=2).filled_from(own).scales == JointCFG("joint-cfg", joint_scale=2).scales
    assert own.filled_from(own) == own
    prompted = replace(own, video_prompt_scale=2, prompt_interval=(10, 90))
    filled = [JointCFG("cfg", **given).filled_from(prompted) for given in ({}, {"prompt_interval": (1, 2)})]
    assert [each.prompt_interval for each in filled] == [(10, 90), (1, 2)]
    assert filled[0].scales["video_prompt_scale"] == 2
    calm = replace(own, video_rescale=1.0)
    assert JointCFG("cfg").filled_from(calm).video_rescale == 1 == calm.changed(mode="cfg").video_rescale
    assert JointCFG("joint-cfg", rescale=0.5).filled_from(calm).video_rescale is None, "given for both"
    for mode in DEFAULTS:
        assert JointCFG(mode).filled_from(JointCFG()).scales == JointCFG(mode).scales
