"""Reuse between steps: exact where nothing changed, as rare as asked, and the audio expert never rests."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from gaussian_model import clock
from tiny_models import LATENT, VIDEO_CHANNELS, audio_unet, conditioning, joint_blocks, joint_model

from jointdit.diffusion.denoiser import JointDenoiser, Pass
from jointdit.diffusion.guidance import GuidedDenoiser, JointCFG
from jointdit.diffusion.reuse import Reuse
from jointdit.diffusion.samplers import euler, heun
from jointdit.diffusion.windows import WindowedDenoiser
from jointdit.errors import InputError
from jointdit.latents import ClipShape, JointLatents, LatentLayout
from jointdit.models.model import JointDiTModel

LEVELS = [
    clock().levels(torch.tensor([sigma], dtype=torch.float64), torch.tensor([timestep], dtype=torch.float64))
    for sigma, timestep in ((3.0, 700), (1.5, 400), (0.5, 200))
]


def noise(seed: int = 0, size: tuple[int, int] = (8, 8)) -> JointLatents:
    generator = torch.Generator().manual_seed(seed)
    shapes = (2, 3, LATENT, *size), (2, LATENT, 12, 16)
    return JointLatents(*(torch.randn(shape, generator=generator) for shape in shapes))


@pytest.fixture(scope="module")
def model():
    return joint_model(open_gates=True)


class Calls:
    """How often the middle of the video, the last layer of its last block, and the middle of the audio are called."""

    def __init__(self, model) -> None:
        self.found = {"middle": 0, "last": 0, "audio": 0}
        parts = (model.video_unet.mid_block, model.video_unet.up_blocks[-1].resnets[-1], model.audio_unet.mid_block)
        self.hooks = [
            part.register_forward_hook(self.counter(name)) for name, part in zip(self.found, parts, strict=True)
        ]

    def counter(self, name):
        def count(*_) -> None:
            self.found[name] += 1

        return count

    def __enter__(self):
        return self.found

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()


def layers_that_run(model, evaluate) -> set[str]:
    """Names of the video UNet's layers that are called."""
    called, parts = set(), ("resnets", "attentions", "downsamplers", "upsamplers")
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: called.add(name))
        for name, layer in model.video_unet.named_modules()
        if name == "conv_in" or (name.count(".") == 3 and name.split(".")[2] in parts) or name.startswith("mid_block.")
    ]
    evaluate()
    for hook in hooks:
        hook.remove()
    return called


def passes():
    cond = conditioning(2)
    return [Pass(cond), Pass(conditioning(2, seed=9)), Pass(cond, isolated=True)]


def equal(ours: list[JointLatents], theirs: list[JointLatents]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(a.video, b.video) and torch.equal(a.audio, b.audio) for a, b in pairs)


@pytest.mark.parametrize("layers", [1, 2, 3])
@torch.no_grad()
def test_every_evaluation_in_full_is_the_plain_denoiser_bit_for_bit(model, layers):
    ours, plain = JointDenoiser(model, clock(), reuse=Reuse(1, layers=layers)), JointDenoiser(model, clock())
    asked = passes()
    for level in LEVELS:
        assert equal(ours.denoise(noise(), level, asked)[0], plain.denoise(noise(), level, asked)[0])


@pytest.mark.parametrize("layers", [1, 2, 3])
@torch.no_grad()
def test_a_reused_evaluation_runs_the_last_layers_and_what_they_take_of_in_alone(model, layers):
    joint, asked = JointDenoiser(model, clock(), reuse=Reuse(2, layers=layers)), [Pass(conditioning(2))]
    whole = layers_that_run(model, lambda: joint.denoise(noise(), LEVELS[0], asked))
    again = layers_that_run(model, lambda: joint.denoise(noise(), LEVELS[0], asked))
    down = [f"down_blocks.0.{kind}.{layer}" for kind in ("resnets", "attentions") for layer in range(layers - 1)]
    up = [f"up_blocks.2.{kind}.{layer}" for kind in ("resnets", "attentions") for layer in range(3 - layers, 3)]
    ends = ["conv_in", *(["down_blocks.0.downsamplers.0"] if layers == 3 else [])]
    assert again == {*ends, *down, *up} and again < whole
    plain = JointDenoiser(model, clock())
    assert whole == layers_that_run(model, lambda: plain.denoise(noise(), LEVELS[0], asked))


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_blocks_of_two_layers_without_attention_are_cut_too_and_a_third_is_refused(layers):
    """As in the bundled model; with sides that the UNet cannot halve evenly."""
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        in_channels=2 * LATENT,
        out_channels=LATENT,
        down_block_types=("DownBlockSpatioTemporal",) * 3,
        up_block_types=("UpBlockSpatioTemporal",) * 3,
        block_out_channels=VIDEO_CHANNELS,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        layers_per_block=1,
        cross_attention_dim=24,
        num_attention_heads=(2, 4, 4),
    )
    joint = JointDiTModel(unet, audio_unet(), joint_blocks(open_gates=True)).eval()
    x, asked = noise(size=(9, 10)), [Pass(conditioning(2, height=9, width=10))]
    ours = JointDenoiser(joint, clock(), reuse=Reuse(2, layers=layers))
    plain = JointDenoiser(joint, clock()).denoise(x, LEVELS[1], asked)[0]
    for full in (1, 0):
        with Calls(joint) as calls:
            (found,) = ours.denoise(x, LEVELS[1], asked)[0]
        assert calls["middle"] == full and torch.equal(found.video, plain[0].video)
    with pytest.raises(InputError, match="reuse layers 3: the last block of this video model has 2 layers; give 1 to"):
        JointDenoiser(joint, clock(), reuse=Reuse(2, layers=3))


def test_all_layers_are_the_default(model):
    last, down = model.video_unet.up_blocks[-1], model.video_unet.down_blocks[0]
    for layers in (None, 3):
        cut = model.cut(layers)
        assert cut.outer_down == [down] and cut.outer_up == [last] and not (cut.inner_down or cut.inner_up)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("max_batch", [None, 1, 4])
@torch.no_grad()
def test_an_evaluation_of_the_same_input_reuses_without_an_error(model, max_batch, layers):
    """Also in a split batch, with isolated passes, and for the audio's sub-steps."""
    joint, asked = JointDenoiser(model, clock(), max_batch, Reuse(3, layers=layers)), passes()
    full, full_again = joint.denoise(noise(), LEVELS[1], asked, keep=True)
    assert equal(full, JointDenoiser(model, clock(), max_batch).denoise(noise(), LEVELS[1], asked)[0])
    with Calls(model) as calls:
        reused, reused_again = joint.denoise(noise(), LEVELS[1], asked, keep=True)
    assert calls["middle"] == 0 < calls["last"] == calls["audio"]
    for ours, theirs in zip(reused, full, strict=True):
        assert torch.equal(ours.video, theirs.video)
        torch.testing.assert_close(ours.audio, theirs.audio, atol=1e-5, rtol=1e-5)
    sound = noise(seed=5).audio
    assert all(map(torch.equal, reused_again(sound, LEVELS[2]), full_again(sound, LEVELS[2])))


@pytest.mark.parametrize("layers", [1, 3])
@torch.no_grad()
def test_windows_of_a_long_clip_reuse_without_an_error(model, layers):
    windows = LatentLayout(LATENT, 8, LATENT, 4, 64, 160, 16000).windows(ClipShape(7, Fraction(7), 64, 64), 3, 1)
    count, generator = len(windows.starts), torch.Generator().manual_seed(0)
    shapes = (1, windows.frames, LATENT, 8, 8), (1, LATENT, windows.audio_latents, 16)
    x = JointLatents(*(torch.randn(shape, generator=generator) for shape in shapes))
    conditions = conditioning(count), conditioning(count, seed=9)

    def windowed(reuse: Reuse | None) -> WindowedDenoiser:
        joint = JointDenoiser(model, clock(), max_batch=2, reuse=reuse)
        return WindowedDenoiser(GuidedDenoiser(joint, JointCFG(mode="joint-cfg"), *conditions), windows)

    plain, _ = windowed(None)(x, LEVELS[1])
    ours = windowed(Reuse(2, layers=layers))
    for full in (True, False):
        with Calls(model) as calls:
            found, _ = ours(x, LEVELS[1])
        assert (calls["middle"] > 0) is full and torch.equal(found.video, plain.video)
        torch.testing.assert_close(found.audio, plain.audio, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_reused_evaluation_sees_the_new_input_of_both_and_the_old_depth_of_the_video(model):
    asked = [Pass(conditioning(2))]
    joint = JointDenoiser(model, clock(), reuse=Reuse(2))
    joint.denoise(noise(), LEVELS[0], asked)
    x = noise(seed=1)
    reused, true = (each.denoise(x, LEVELS[1], asked)[0][0] for each in (joint, JointDenoiser(model, clock())))
    other = JointDenoiser(model, clock(), reuse=Reuse(2))
    other.denoise(noise(seed=3), LEVELS[0], asked)
    elsewhere = other.denoise(x, LEVELS[1], asked)[0][0]
    for name in ("video", "audio"):
        errors = [(getattr(each, name) - getattr(true, name)).abs().max() for each in (reused, elsewhere)]
        assert min(errors) > 1e-4, "the depth is the old one"
        assert (getattr(reused, name) - getattr(elsewhere, name)).abs().max() > 1e-4
    changed = replace(x, video=noise(seed=4).video)
    joint.denoise(noise(), LEVELS[0], asked)
    assert (joint.denoise(changed, LEVELS[1], asked)[0][0].video - reused.video).abs().max() > 1e-2, "In runs anew"


@pytest.mark.parametrize(("sampler", "every", "full"), [(euler, 2, 3), (euler, 4, 2), (heun, 2, 6)])
@torch.no_grad()
def test_of_every_n_evaluations_one_is_full_and_the_audio_always_runs(model, sampler, every, full):
    grid = clock().grid(sigmas=torch.tensor([4.0, 3.0, 2.0, 1.5, 1.0, 0.6, 0.5]), audio_substeps=2)
    guided = GuidedDenoiser(JointDenoiser(model, clock(), reuse=Reuse(every)), JointCFG(mode="none"), conditioning(2))
    with Calls(model) as calls:
        sampler(guided, noise(), grid)
    evaluations = 6 if sampler is euler else 12
    substeps = 6 if sampler is euler else 12
    assert calls == {"middle": full, "last": evaluations, "audio": evaluations + substeps}


@torch.no_grad()
def test_when_guidance_needs_other_predictions_the_evaluation_is_full(model):
    guidance = JointCFG(mode="joint-cfg", joint_scale=2.0, interval=(1.0, 10.0))
    joint = JointDenoiser(model, clock(), reuse=Reuse(10))
    guided = GuidedDenoiser(joint, guidance, conditioning(2), conditioning(2, seed=9))
    seen = []
    for level in (*LEVELS, LEVELS[2], LEVELS[0]):
        with Calls(model) as calls:
            guided(noise(), level)
        seen.append(calls["middle"])
    assert seen == [1, 0, 1, 0, 1]


@torch.no_grad()
def test_an_input_that_moved_far_is_evaluated_in_full(model):
    joint, asked = JointDenoiser(model, clock(), reuse=Reuse(100, moved=0.2)), [Pass(conditioning(2))]
    x, moved = noise(), noise(seed=1)
    near = x.map(lambda part: part * 1.01)
    seen = []
    for state in (x, near, moved, moved, near):
        with Calls(model) as calls:
            joint.denoise(state, LEVELS[1], asked)
        seen.append(calls["middle"])
    assert seen == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    "values", [{"every": 0}, {"every": 1001}, {"moved": -0.1}, {"moved": float("nan")}, {"layers": 0}]
)
def test_a_schedule_out_of_range_is_refused(values):
    with pytest.raises(InputError, match=str(next(iter(values.values())))):
        Reuse(**values)
