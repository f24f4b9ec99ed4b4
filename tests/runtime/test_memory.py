"""Memory settings: the plain path's numbers, weights that are on the device only while used, and eight bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import SHAPE, assert_close, seeded, write_experts
from torch import nn

from jointdit import InputError, JointCFG, JointDiTPipeline, Reuse, SamplingSettings
from jointdit.runtime.float8 import store_in_float8
from jointdit.runtime.memory import PRESETS, Memory
from jointdit.runtime.offload import unet_blocks

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    return write_experts(tmp_path_factory.mktemp("experts"))


@pytest.fixture
def pipe(experts):
    """Real experts at small size whose Joint Blocks are open."""
    pipe = JointDiTPipeline.from_experts(*experts)
    torch.manual_seed(0)
    for block in pipe.joint_blocks.blocks:
        for branch in (block.video, block.audio):
            nn.init.normal_(branch.modulation.bias, std=0.5)
    return pipe


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def run(pipe, picture):
    """Latents and a clip, by the steps that nodes take."""
    shape = pipe.shape(**SHAPE)
    conditions = pipe.condition([picture], ["a ball"], [None], shape, seeded())
    settings = SamplingSettings(2, guidance=JointCFG(mode="joint-cfg-star"), audio_substeps=2)
    latents = pipe.sample(conditions, settings, generator=seeded(1))
    return latents, pipe.decode_video(latents.video), pipe.decode_audio(latents.audio, shape)


@pytest.mark.parametrize(
    "memory",
    [
        Memory(max_batch=1),
        Memory(feed_forward_chunks=True),
        Memory(query_chunk=3),
        Memory(offload="component"),
        Memory(offload="stage"),
        PRESETS["low"],
        PRESETS["lowest"],
    ],
    ids=lambda memory: next(
        (name for name, preset in PRESETS.items() if memory == preset),
        ", ".join(f"{k}={v}" for k, v in vars(memory).items() if v != getattr(Memory(), k)),
    ),
)
def test_settings_change_no_number(pipe, picture, memory):
    plain, frames, sound = run(pipe, picture)
    pipe.set_memory(memory)
    latents, saving_frames, saving_sound = run(pipe, picture)
    assert_close(latents, plain)
    np.testing.assert_allclose(saving_sound, sound, atol=1e-4)
    if memory.decode_chunk == pipe.shape(**SHAPE).frames or memory.decode_chunk == Memory().decode_chunk:
        np.testing.assert_allclose(saving_frames, frames, atol=1)
    pipe.set_memory("plain")
    assert_close(run(pipe, picture)[0], plain)


class Watch:
    """Where the weights of every layer are when it runs. A copy on the host is where it was when it was at rest."""

    def __init__(self, pipe):
        modules = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
        self.layers = {
            layer: name
            for name, part in modules.items()
            for layer in part.modules()
            if list(layer.parameters(recurse=False))
        }
        self.resting = {layer: self.places(layer) for layer in self.layers}
        self.used, self.most, self.calls = set(), {}, 0
        self.hooks = [layer.register_forward_pre_hook(self.see) for layer in self.layers]

    @staticmethod
    def places(layer):
        return [weight.data_ptr() for weight in layer.parameters(recurse=False)]

    def visiting(self, name=None):
        return [
            layer
            for layer, owner in self.layers.items()
            if name in (None, owner) and self.places(layer) != self.resting[layer]
        ]

    def see(self, layer, _):
        name = self.layers[layer]
        assert self.places(layer) != self.resting[layer], f"{name}: {type(layer).__name__} ran where it rests"
        self.used.add(name)
        self.calls += 1
        if self.calls % 50 and name in self.most:  # adding up at every call would take minutes
            return
        here = sum(weight.nbytes for each in self.visiting() for weight in each.parameters(recurse=False))
        self.most[name] = max(self.most.get(name, 0), here)


def size(*modules):
    return sum(weight.nbytes for module in modules for weight in module.parameters())


@pytest.mark.parametrize("offload", ["component", "stage"])
def test_every_layer_runs_on_the_device_and_what_is_not_used_rests(pipe, picture, offload):
    pipe.set_memory(Memory(offload=offload))
    watch = Watch(pipe)
    run(pipe, picture)
    assert watch.used == {
        "video_vae", "image_encoder", "text_encoder", "text_encoder_2", "projection_model", "language_model",
        "joint_blocks", "video_unet", "audio_unet", "audio_vae", "vocoder",
    }  # fmt: skip
    assert not watch.visiting()
    assert watch.most["image_encoder"] <= size(pipe.image_encoder)
    assert watch.most["video_vae"] <= size(pipe.video_vae)
    denoising, blocks = size(pipe.audio_unet, pipe.joint_blocks, pipe.video_unet), unet_blocks(pipe.video_unet)
    if offload == "component":
        assert watch.most["video_unet"] == denoising
    else:
        largest = max(size(block) for block in blocks)
        assert 0 < watch.most["video_unet"] - denoising + size(*blocks) <= largest


@pytest.mark.parametrize("offload", ["component", "stage"])
def test_parts_of_blocks_run_on_the_device_too_and_give_the_same_numbers(pipe, picture, offload):
    conditions = pipe.condition([picture], ["a ball"], [None], pipe.shape(**SHAPE), seeded())
    settings = SamplingSettings(4, guidance=JointCFG(mode="joint-cfg"), reuse=Reuse(2, layers=1))
    plain = pipe.sample(conditions, settings, generator=seeded(1))
    pipe.set_memory(Memory(offload=offload))
    watch = Watch(pipe)
    assert_close(pipe.sample(conditions, settings, generator=seeded(1)), plain)
    assert watch.used == {"video_unet", "audio_unet", "joint_blocks"} and not watch.visiting()


def test_an_error_in_a_block_leaves_nothing_on_the_device(pipe, picture):
    pipe.set_memory(Memory(offload="stage"))
    watch = Watch(pipe)
    handle = pipe.video_unet.mid_block.resnets[0].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(pipe, picture)
    assert not watch.visiting()
    handle.remove()
    run(pipe, picture)


@pytest.mark.parametrize(
    ("name", "offload"), [("enable_model_cpu_offload", "component"), ("enable_sequential_cpu_offload", "stage")]
)
def test_diffusers_names_for_offload_work(pipe, picture, name, offload):
    plain = run(pipe, picture)[0]
    getattr(pipe, name)(device="cpu")
    watch = Watch(pipe)
    assert_close(run(pipe, picture)[0], plain)
    assert "video_unet" in watch.used and pipe.memory.offload == offload


def test_an_offloaded_model_is_saved_whole(pipe, picture, tmp_path):
    plain = run(pipe, picture)[0]
    pipe.set_memory("lowest")
    run(pipe, picture)
    pipe.save_pretrained(tmp_path / "model")
    assert_close(run(JointDiTPipeline.from_pretrained(tmp_path / "model"), picture)[0], plain)


def test_eight_bits_halve_the_blocks_and_stay_close(pipe, picture, tmp_path):
    before = size(*unet_blocks(pipe.video_unet))
    plain = run(pipe, picture)[0]
    pipe.set_memory(Memory(float8=True, offload="stage"))
    assert size(*unet_blocks(pipe.video_unet)) < 0.35 * before, "from float32 to eight bits"
    assert pipe.video_unet.dtype == torch.float32
    stored = run(pipe, picture)[0]
    for name in ("video", "audio"):
        exact, near = getattr(plain, name), getattr(stored, name)
        assert 0 < (near - exact).norm() / exact.norm() < 0.2, f"the {name} has lost too much"
    with pytest.raises(InputError, match="load the model again"):
        pipe.set_memory("plain")
    with pytest.raises(InputError, match="as it was loaded"):
        pipe.save_pretrained(tmp_path / "model")


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_eight_bits_with_a_scale_err_by_half_of_what_a_cast_does(dtype):
    unet = nn.Module()
    unet.down_blocks = unet.up_blocks = nn.ModuleList()
    unet.mid_block = layer = nn.Linear(640, 32).to(dtype)
    nn.init.normal_(layer.weight, std=0.01, generator=seeded())
    layer.weight[3] = 0
    exact, inputs = layer.weight.float().clone(), torch.ones(1, 640, dtype=dtype)
    cast = exact.to(torch.float8_e4m3fn).float()
    store_in_float8(unet)
    assert layer.weight.dtype == layer(inputs).dtype == dtype and not layer.weight[3].any()
    assert (layer.weight.float() - exact).norm() < (cast - exact).norm() / 2


def test_settings_are_checked(pipe):
    for wrong, message in (
        ({"offload": "disk"}, "none, component, stage"),
        ({"max_batch": 0}, "max_batch is 0"),
        ({"decode_chunk": 0}, "decode_chunk is 0"),
    ):
        with pytest.raises(InputError, match=message):
            replace(Memory(), **wrong)
    with pytest.raises(InputError, match="plain, low, lowest"):
        pipe.set_memory("tiny")
