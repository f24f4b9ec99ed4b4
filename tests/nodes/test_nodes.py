"""Every node, executed through its class on real components at small size."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from comfy_pack import ROOT, STAND_IN, library, load_pack, nodes
from original_svd import SMALL_CONFIGS, write_single_file
from safetensors.torch import load_file
from tiny_models import adapter_matrices, write_experts, write_trained

from jointdit import Clip, JointDiTPipeline, Memory
from jointdit.checkpoints.adapter_files import save_adapters
from jointdit.diffusion.guidance import DEFAULTS
from jointdit.diffusion.reuse import Reuse
from jointdit.evaluate import draw_sync
from jointdit.evaluate.clip import score_clip
from jointdit.options import MAX_SECONDS
from jointdit.pipeline import GivenVideo, SamplingSettings
from jointdit.synthetic import render_scene
from jointdit.train.cache import LatentCache, read_split
from jointdit.train.engine import Engine
from jointdit.train.precision import make_accelerator
from jointdit.train.stages import TEMPLATES, TrainingConfig, read_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

load_pack()
import comfy.cli_args  # noqa: E402
import comfy.model_management as manager  # noqa: E402
import folder_paths  # noqa: E402
import stand_in_record as record  # noqa: E402
from comfy.ldm.modules import attention  # noqa: E402
from comfy_api.v0_0_2 import InputImpl, Types  # noqa: E402

NODES = nodes()
# Workflows of users refer to these. Never rename one; add at the end.
GOLDEN = [
    "JointDiTLoadModel",
    "JointDiTLoadExperts",
    "JointDiTCondition",
    "JointDiTJointCFG",
    "JointDiTSample",
    "JointDiTDecodeVideo",
    "JointDiTDecodeAudio",
    "JointDiTMux",
    "JointDiTCacheLatents",
    "JointDiTTrain",
    "JointDiTSyncReport",
    "JointDiTRetake",
]
ELSEWHERE = """
import sys
_, tests, version, *missing = sys.argv
sys.path[:0] = [tests, tests + "/comfyui_stand_in"]
sys.modules.update(dict.fromkeys(missing))
import comfyui_version
comfyui_version.__version__ = version
from comfy_pack import load_pack, nodes
load_pack()
print(len(nodes()))
"""
CASTS = "comfy_cast_weights"  # of a layer whose weights come to the device as they are used
SHAPE = {"width": 48, "height": 40, "frames": 4, "fps": 8.0}


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_experts(folder / "diffusers")
    (folder / "jointdit").mkdir()
    before, folder_paths.models_dir = folder_paths.models_dir, str(folder)
    yield folder
    folder_paths.models_dir = before


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """ComfyUI's input folder with three sounding videos, and its output folder."""
    folder = tmp_path_factory.mktemp("comfyui")
    for seed in range(3):
        path = folder / "input" / "mine" / "a ball" / f"{seed}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene = render_scene(seed, frames=8, fps=8, height=40, width=48, effect="ball")
        Clip(scene.frames, scene.fps, scene.audio[None], scene.sample_rate).save(path)
    (folder / "input" / "empty").mkdir()
    (folder / "input" / "mine" / "a ball" / "broken.mp4").write_bytes(b"no video")
    before = folder_paths.input_directory, folder_paths.output_directory
    folder_paths.input_directory, folder_paths.output_directory = str(folder / "input"), str(folder / "output")
    yield folder
    folder_paths.input_directory, folder_paths.output_directory = before


@pytest.fixture(scope="module")
def model(models):
    return run("LoadExperts", video_expert="svd", audio_expert="audioldm2", joint_blocks="none (identity)")[0]


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(2, 60, 90, 3, generator=torch.Generator().manual_seed(0))


def inputs_of(node, options=None):
    """The node's inputs by id, those of its dynamic combos too."""
    found = {}
    for each in node.define_schema().inputs:
        found[each.id] = each
        if each.io_type == "COMFY_DYNAMICCOMBO_V3":
            for option in each.options:
                found.update({f"{each.id}.{option.key}.{inner.id}": inner for inner in option.inputs})
    return found


def run(kind, /, **given):
    """Executes a node as ComfyUI does, in inference mode and with the defaults of its widgets."""
    node = NODES[f"JointDiT{kind}"]
    defaults = {each.id: each.default for each in node.define_schema().inputs if each.default is not None}
    if kind == "Condition":
        defaults["window"] = SHAPE["frames"]  # more than these experts were made for
    with torch.inference_mode():
        return node.execute(**{**defaults, **given}).args


def make(model, pictures, seed=0, condition=None, **sampling):
    conditions, fps = run(
        "Condition", model=model, image=pictures, **(SHAPE | {"picture_seed": seed} | (condition or {}))
    )
    video, audio = run("Sample", model=model, conditions=conditions, seed=seed, **({"steps": 2} | sampling))
    return video, audio, fps


def test_node_ids_are_stable():
    assert list(NODES) == GOLDEN


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_every_widget_and_socket_explains_itself(node):
    schema = node.define_schema()
    assert schema.display_name.startswith("JointDiT ") and schema.category == "JointDiT"
    assert len(schema.description) > 30 and len(schema.search_aliases) >= 2
    for name, each in inputs_of(node).items():
        assert each.tooltip and len(each.tooltip) > 20, name
        if each.io_type in ("INT", "FLOAT"):
            assert each.min <= each.default <= each.max, name
        if each.io_type == "COMBO":
            assert each.options and (each.default is None or each.default in each.options), name
    for each in schema.outputs:
        assert each.tooltip and each.display_name
    for sockets in (schema.inputs, schema.outputs):
        assert len({each.id for each in sockets}) == len(sockets)


def test_nodes_make_the_very_clip_that_the_library_makes(model, models, pictures):
    assert_same_clip(model, library_pipe(models), pictures[:1])


def test_experts_that_fit_only_in_part_make_the_same_clip(model, models, pictures, monkeypatch):
    casting = []

    def half(patchers, memory_required=0, force_full_load=False):
        for each in patchers:
            each.load(torch.device("cpu"), sum(tensor.nbytes for tensor in each.model.parameters()) / 2)
            casting.extend(name for name, layer in each.model.named_modules() if getattr(layer, CASTS, False))

    monkeypatch.setattr(manager, "load_models_gpu", half)
    assert_same_clip(model, library_pipe(models), pictures[:1])
    assert len(casting) > 100 and any(name.endswith("temporal_res_block.conv1") for name in casting)


def test_a_lora_of_the_video_expert_loads_with_it(models, pictures):
    plain, folder = library_pipe(models), models / "loras" / "mine"
    torch.manual_seed(0)
    save_adapters(folder, {"video_unet": adapter_matrices(plain.video_unet)})
    plain.load_video_lora(folder / "video.safetensors", 0.5)
    experts = {"video_expert": "svd", "audio_expert": "audioldm2", "joint_blocks": "none (identity)"}
    chosen = {"video_lora": "mine/video.safetensors", "lora_strength": 0.5}
    clip = assert_same_clip(run("LoadExperts", **experts, **chosen)[0], plain, pictures[:1])
    assert not np.array_equal(library_clip(library_pipe(models), pictures[:1]).frames, clip.frames)
    whole = models / "jointdit" / "whole"
    library_pipe(models).save_pretrained(whole)
    assert_same_clip(run("LoadModel", model="whole", **chosen)[0], plain, pictures[:1])
    save_adapters(folder, {"audio_unet": adapter_matrices(plain.audio_unet)})
    with pytest.raises(ValueError, match="audio.safetensors: made for another model"):
        run("LoadExperts", **experts, video_lora="mine/audio.safetensors")
    with pytest.raises(ValueError, match="'gone.safetensors' is not there .found: none, mine/audio.*models.*loras"):
        run("LoadExperts", **experts, video_lora="gone.safetensors")


def test_experts_in_eight_bits_are_the_librarys(model, models, pictures):
    experts = {"video_expert": "svd", "audio_expert": "audioldm2", "joint_blocks": "none (identity)"}
    small, pipe = run("LoadExperts", **experts, weights="eight bits")[0], library_pipe(models)
    pipe.set_memory(Memory(float8=True))
    assert_same_clip(small, pipe, pictures[:1])
    sizes = [
        sum(each.nbytes for name in ("video_unet", "audio_unet") for each in getattr(made.pipe, name).parameters())
        for made in (small, model)
    ]
    assert sizes[0] < 0.35 * sizes[1]  # of float32


def assert_same_clip(model, pipe, picture):
    """Of the nodes and of the library, whose clip is returned."""
    video, audio, fps = make(model, picture, seed=5, condition={"prompt": "a ball"})
    (images,) = run("DecodeVideo", model=model, video=video)[0]
    (sound,) = run("DecodeAudio", model=model, audio=audio)[0]
    (made,) = run("Mux", images=images, audio=sound, fps=fps)
    parts, clip = made.get_components(), library_clip(pipe, picture)
    assert np.array_equal((parts.images * 255).round().byte().numpy(), clip.frames)
    np.testing.assert_array_equal(parts.audio["waveform"][0].numpy(), clip.audio)
    assert parts.frame_rate == clip.fps == 8 and parts.audio["sample_rate"] == clip.sample_rate
    return clip


def library_clip(pipe, picture):
    pixels = (picture[0] * 255).round().byte().numpy()
    return pipe(pixels, "a ball", steps=2, generator=torch.Generator().manual_seed(5), **SHAPE)


def library_pipe(models, **trained):
    return JointDiTPipeline.from_experts(models / "diffusers/svd", models / "diffusers/audioldm2", **trained)


@pytest.fixture
def trained(models):
    """In models/jointdit: what stage B with adapters writes, as the library's arguments, and a model that it is for."""
    pipe, folder = library_pipe(models), models / "jointdit"
    pipe.save_pretrained(folder / "whole")
    write_trained(pipe, folder / "trained.safetensors", folder / "trained")
    yield {"joint": folder / "trained.safetensors", "adapters": folder / "trained"}
    (folder / "trained.safetensors").unlink()
    for name in ("whole", "trained"):
        shutil.rmtree(folder / name)


WHOLE = {"model": "whole"}
EXPERTS = {"video_expert": "svd", "audio_expert": "audioldm2"}
CHOSEN = {"joint_blocks": "trained.safetensors", "adapters": "trained"}
LOADERS = pytest.mark.parametrize(
    ("name", "source"), [("LoadModel", WHOLE), ("LoadExperts", EXPERTS)], ids=("model", "experts")
)


@LOADERS
def test_joint_blocks_and_their_adapters_make_the_very_clip_that_the_library_makes(
    models, trained, pictures, name, source
):
    folder = models / "jointdit" / "whole"
    pipe = JointDiTPipeline.from_pretrained(folder, **trained) if source is WHOLE else library_pipe(models, **trained)
    clip = assert_same_clip(run(name, **source, **CHOSEN)[0], pipe, pictures[:1])
    for left_out in trained:
        rest = {key: place for key, place in trained.items() if key != left_out}
        other = library_clip(library_pipe(models, **rest), pictures[:1])
        assert not np.array_equal(other.audio, clip.audio), f"{left_out} changes nothing"


def test_a_model_keeps_its_own_joint_blocks_or_goes_without(models, trained):
    library_pipe(models, joint=trained["joint"]).save_pretrained(models / "jointdit" / "whole")

    def gates(**chosen):
        blocks = run("LoadModel", model="whole", **chosen)[0].pipe.joint_blocks.blocks
        return {block.video.modulation.bias[-1].item() for block in blocks}

    assert gates() == {0.5} and gates(joint_blocks="none (identity)") == {0.0}


@LOADERS
def test_changed_joint_blocks_and_adapters_are_loaded_again(trained, name, source):
    node = NODES[f"JointDiT{name}"]

    def state():
        return node.fingerprint_inputs(precision="auto", **source, **CHOSEN)

    before = state()
    assert before == state()
    for path in (trained["joint"], trained["adapters"] / "audio.safetensors"):
        path.touch()
        assert before != (before := state())


def test_a_given_video_gets_the_very_sound_that_the_library_makes(model, models):
    frames = torch.rand(8, 60, 90, 3, generator=torch.Generator().manual_seed(1))
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=frames, frame_rate=Fraction(16)))
    conditions, fps = run("Condition", model=model, video=video, picture_seed=5, **SHAPE)
    _, audio = run("Sample", model=model, conditions=conditions, seed=5, steps=2)
    (sound,) = run("DecodeAudio", model=model, audio=audio)[0]
    given = Clip((frames.numpy() * 255).round().astype(np.uint8), Fraction(16), np.zeros((1, 0), np.float32), 16000)
    clip = library_pipe(models)(video=given, steps=2, generator=torch.Generator().manual_seed(5), **SHAPE)
    np.testing.assert_array_equal(sound["waveform"][0].numpy(), clip.audio)
    assert fps == 8 and np.abs(clip.audio).max() > 0


def test_a_shorter_video_makes_a_shorter_clip_unless_frames_are_asked_for(model):
    frames = torch.rand(2, 40, 48, 3)
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=frames, frame_rate=Fraction(8)))
    conditions, _ = run("Condition", model=model, video=video, **SHAPE | {"frames": 0})
    assert conditions.conditions.shape.frames == 2 < model.pipe.defaults.frames
    with pytest.raises(ValueError, match="2 frames; 6 are asked"):
        run("Condition", model=model, video=video, **SHAPE | {"frames": 6})


def video_of(clip):
    """As ComfyUI hands it over."""
    sound = (
        {"waveform": torch.from_numpy(clip.audio)[None], "sample_rate": clip.sample_rate} if clip.has_audio else None
    )
    images = torch.from_numpy(clip.frames).float() / 255
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=clip.fps, audio=sound))


@pytest.mark.parametrize("what", ["both", "video", "sound"])
def test_a_part_of_a_clip_is_made_anew_as_the_library_makes_it(model, models, what):
    clip = sounding_clip()
    record.loaded.clear()
    (video,) = run(
        "Retake", model=model, video=video_of(clip), start=0.4, stop=0.8, what=what, prompt="a ball", seed=5, steps=2
    )
    assert record.loaded and model.pipe.loader is None
    made, again = (
        video.get_components(),
        library_pipe(models).retake(
            clip,
            0.4,
            0.8,
            "a ball",
            what=what,
            settings=SamplingSettings(steps=2),
            generator=torch.Generator().manual_seed(5),
        ),
    )
    assert np.array_equal((made.images * 255).round().byte().numpy(), again.frames)
    np.testing.assert_array_equal(made.audio["waveform"][0].numpy(), again.audio)
    changed = (again.frames != clip.frames).any((1, 2, 3)).nonzero()[0].tolist()
    assert changed == ([] if what == "sound" else [4, 5, 6])
    assert np.array_equal(again.audio[:, :6400], clip.audio[:, :6400])
    assert np.array_equal(again.audio, clip.audio) == (what == "video")


def sounding_clip():
    """Eight frames of noise with a second of noise."""
    random = np.random.default_rng(1)
    frames, sound = random.integers(0, 256, (8, 40, 48, 3), np.uint8), random.uniform(-0.5, 0.5, (1, 16000))
    return Clip(frames, Fraction(8), sound.astype(np.float32), 16000)


def retake(model, **given):
    (video,) = run("Retake", model=model, video=video_of(sounding_clip()), start=0.4, stop=0.8, steps=2, **given)
    return video.get_components()


def test_a_retake_shows_its_frames_and_loudness_at_every_step(model):
    record.shown.clear()
    retake(model)
    shown = {done: preview[1] for done, total, preview in record.shown if preview and total == 2}
    assert {1, 2} <= shown.keys() and np.asarray(shown[2])[:-64].std() > 1


@pytest.mark.parametrize("chunks", [False, True], ids=("passes", "chunks"))
def test_a_retake_goes_on_with_less_at_once_when_memory_is_short(model, monkeypatch, caplog, chunks):
    plain = retake(model, seed=5)
    asked = run_short_of_memory(model, monkeypatch, chunks)
    again = retake(model, seed=5)
    assert (again.images - plain.images).abs().max() <= 1 / 255
    torch.testing.assert_close(again.audio["waveform"], plain.audio["waveform"], rtol=0, atol=1e-3)
    assert asked[0] == 2 and set(asked[2:]) == {1}
    assert ("trying parts of its layers" if chunks else "trying 1 passes") in caplog.text
    assert not any(block.query_chunk for block in model.pipe.joint_blocks.blocks)


def test_seconds_of_a_retake_go_as_far_as_a_clip_may():
    inputs = inputs_of(NODES["JointDiTRetake"])
    assert inputs["start"].max == inputs["stop"].max == MAX_SECONDS == 60


def test_a_clip_that_cannot_be_retaken_is_refused_in_one_line(model):
    still = Clip(np.zeros((8, 40, 48, 3), np.uint8), Fraction(8), np.zeros((1, 0), np.float32), 16000)
    with pytest.raises(ValueError, match="no sound; give it one first"):
        run("Retake", model=model, video=video_of(still), start=0.2, stop=0.6)
    sounding = replace(still, audio=np.zeros((1, 16000), np.float32))
    with pytest.raises(ValueError, match="retake 0.2-1.6: give a span within the clip, 0 to 1.000 s"):
        run("Retake", model=model, video=video_of(sounding), start=0.2, stop=1.6)
    with pytest.raises(ValueError, match="lasts 61 s.*60 at most"):
        run("Retake", model=model, video=InputImpl.VideoFromFile("long.mp4", duration=61))


def test_a_long_part_of_a_video_is_refused_before_it_fills_the_memory(model):
    video = InputImpl.VideoFromFile("long.mp4", start_time=1, duration=61)
    with pytest.raises(ValueError, match="part of a video lasts 61 s.*60 at most.*cut it shorter"):
        run("Condition", model=model, video=video, **SHAPE)


WINDOWS = SHAPE | {"frames": 9, "window": 4, "overlap": 2}


def long_clip(models, *given, **options):
    """What the library makes of them, read."""
    settings, generator = SamplingSettings(steps=2), torch.Generator().manual_seed(5)
    return library_pipe(models).long(*given, settings=settings, generator=generator, **options).read()


def test_a_picture_goes_on_beyond_the_window_as_in_the_library(model, models, pictures):
    record.shown.clear()
    video, audio, fps = make(model, pictures[:1], seed=5, condition=WINDOWS | {"prompt": "a ball"})
    bar = [shown[:2] for shown in record.shown if shown[1] == 8]  # two steps of four windows
    assert bar == sorted(bar) and bar[-1] == (8, 8) and {(0, 8), (2, 8), (4, 8), (6, 8)} <= {*bar}
    (images,) = run("DecodeVideo", model=model, video=video)[0]
    (sound,) = run("DecodeAudio", model=model, audio=audio)[0]
    clip = long_clip(models, (pictures[0] * 255).round().byte().numpy(), "a ball", **WINDOWS)
    assert np.array_equal((images * 255).round().byte().numpy(), clip.frames) and fps == 8
    np.testing.assert_array_equal(sound["waveform"][0].numpy(), clip.audio)


def test_a_video_of_any_length_gets_the_sound_that_the_library_makes(model, models, tmp_path):
    """From a file, which is not taken into memory."""
    frames = (torch.rand(21, 60, 90, 3, generator=torch.Generator().manual_seed(1)) * 255).byte().numpy()
    path = tmp_path / "given.mp4"
    Clip(frames, Fraction(16), np.zeros((1, 0), np.float32), 16000).save(path)
    options = WINDOWS | {"frames": 0}
    conditions, _ = run("Condition", model=model, video=InputImpl.VideoFromFile(str(path)), picture_seed=5, **options)
    _, audio = run("Sample", model=model, conditions=conditions, seed=5, steps=2)
    (sound,) = run("DecodeAudio", model=model, audio=audio)[0]
    clip = long_clip(models, video=GivenVideo.of(path), **options | {"frames": None})
    np.testing.assert_array_equal(sound["waveform"][0].numpy(), clip.audio)
    assert clip.audio.shape[1] == 21 * 1000 and np.abs(clip.audio).max() > 0


def test_pictures_move_to_a_long_sound_as_in_the_library(model, models, pictures):
    samples = torch.rand(1, 2, 49000, generator=torch.Generator().manual_seed(2)) - 0.5
    sound, options = {"waveform": samples, "sample_rate": 44100}, WINDOWS | {"frames": 0}
    conditions, _ = run("Condition", model=model, image=pictures, audio=sound, picture_seed=5, **options)
    video, _ = run("Sample", model=model, conditions=conditions, seed=5, steps=2)
    first, second = run("DecodeVideo", model=model, video=video)[0]
    picture, options = (pictures[0] * 255).round().byte().numpy(), options | {"frames": None}
    clip = long_clip(models, picture, audio=(samples[0].numpy(), 44100), **options)
    assert np.array_equal((first * 255).round().byte().numpy(), clip.frames) and len(first) == len(second) == 9
    assert not torch.equal(first, second)


def test_after_a_cancel_among_windows_the_next_run_is_as_always(model, pictures):
    conditions, _ = run("Condition", model=model, image=pictures[:1], **WINDOWS)
    before, _ = run("Sample", model=model, conditions=conditions, steps=1)
    record.interrupt_after = 40
    with pytest.raises(manager.InterruptProcessingException):
        run("Sample", model=model, conditions=conditions, steps=4)
    again, _ = run("Sample", model=model, conditions=conditions, steps=1)
    assert torch.equal(before["samples"], again["samples"])


def test_several_clips_of_a_picture_have_the_seeds_that_follow(model, pictures):
    many, sounds, _ = make(model, pictures, condition=SHAPE, seed=5, clips=2)
    for number, seed in enumerate((5, 6)):
        conditions, _ = run("Condition", model=model, image=pictures, **SHAPE, picture_seed=5)
        video, audio = run("Sample", model=model, conditions=conditions, seed=seed, steps=2)
        ours = many["samples"][8 * number : 8 * (number + 1)]  # two pictures of four frames
        torch.testing.assert_close(ours, video["samples"], rtol=0, atol=1e-4)
        torch.testing.assert_close(
            sounds["samples"][2 * number : 2 * (number + 1)], audio["samples"], rtol=0, atol=1e-4
        )
    conditions, _ = run("Condition", model=model, image=pictures[:1], **WINDOWS)
    two, _ = run("Sample", model=model, conditions=conditions, seed=5, steps=1, clips=2)
    second, _ = run("Sample", model=model, conditions=conditions, seed=6, steps=1)
    assert torch.equal(two["samples"][9:], second["samples"])


def test_reuse_is_the_librarys(model, models, pictures):
    video, _, _ = make(model, pictures[:1], seed=5, steps=3, reuse=2, reuse_layers=1)
    (images,) = run("DecodeVideo", model=model, video=video)[0]
    picture, generator = (pictures[0] * 255).round().byte().numpy(), torch.Generator().manual_seed(5)
    clips = [
        library_pipe(models)(picture, steps=3, generator=generator.manual_seed(5), reuse=reuse, **SHAPE)
        for reuse in (Reuse(2, layers=1), Reuse(2), None)
    ]
    ours = (images * 255).round().byte().numpy()
    assert [np.array_equal(ours, clip.frames) for clip in clips] == [True, False, False]


def test_the_bar_moves_within_a_step(model, pictures):
    record.shown.clear()
    make(model, pictures[:1], steps=3)
    values = [value for value, total, _ in record.shown if total == 3]
    second, third = ([value for value in values if low < value < low + 1] for low in (1, 2))
    assert min(len(second), len(third)) > 10 and second == sorted(second) and third == sorted(third)


def run_short_of_memory(model, monkeypatch, chunks):
    """From now on there is memory for one row of an evaluation, or only for one in chunks. Gives how many rows each
    evaluation is asked for."""
    trunk, asked = model.pipe.model.trunk, []

    def short(stem, isolated, *rest):
        asked.append(len(isolated))
        if len(isolated) > 1 or (chunks and not all(block.query_chunk for block in model.pipe.joint_blocks.blocks)):
            raise torch.OutOfMemoryError
        return trunk(stem, isolated, *rest)

    monkeypatch.setattr(model.pipe.model, "trunk", short)
    return asked


@pytest.mark.parametrize("chunks", [False, True], ids=("passes", "chunks"))
def test_sampling_goes_on_with_less_at_once_when_memory_is_short(model, pictures, monkeypatch, caplog, chunks):
    plain, *_ = make(model, pictures[:1])
    asked = run_short_of_memory(model, monkeypatch, chunks)
    video, *_ = make(model, pictures[:1])
    torch.testing.assert_close(video["samples"], plain["samples"], rtol=0, atol=1e-4)
    assert asked[0] == 2 and set(asked[2:]) == {1}
    assert ("trying parts of its layers" if chunks else "trying 1 passes") in caplog.text
    assert not any(block.query_chunk for block in model.pipe.joint_blocks.blocks)


def test_pictures_move_to_a_given_sound_as_in_the_library(model, models, pictures):
    samples = torch.rand(1, 2, 22050, generator=torch.Generator().manual_seed(2)) - 0.5
    sound = {"waveform": samples, "sample_rate": 44100}
    conditions, _ = run("Condition", model=model, image=pictures[:1], audio=sound, picture_seed=5, **SHAPE)
    video, _ = run("Sample", model=model, conditions=conditions, seed=5, steps=2)
    (images,) = run("DecodeVideo", model=model, video=video)[0]
    picture = (pictures[0] * 255).round().byte().numpy()
    generator = torch.Generator().manual_seed(5)
    clip = library_pipe(models)(picture, audio=(samples[0].numpy(), 44100), steps=2, generator=generator, **SHAPE)
    assert np.array_equal((images * 255).round().byte().numpy(), clip.frames)


def test_latents_have_the_layout_of_stock_nodes(model, pictures):
    video, audio, _ = make(model, pictures)
    assert video["samples"].shape == (2 * 4, 4, 10, 12)  # the frames of both clips, channels, height, width
    assert audio["samples"].shape[:2] == (2, 4) and audio["type"] == "audio"
    assert video["samples"].device.type == audio["samples"].device.type == "cpu"


def test_each_picture_of_a_batch_gives_a_clip_of_its_own(model, pictures):
    video, audio, _ = make(model, pictures)
    clips, sounds = run("DecodeVideo", model=model, video=video)[0], run("DecodeAudio", model=model, audio=audio)[0]
    assert [clip.shape for clip in clips] == [(4, 40, 48, 3)] * 2
    assert [sound["waveform"].shape for sound in sounds] == [(1, 1, 8000)] * 2
    assert all(clip.min() >= 0 and clip.max() <= 1 for clip in clips) and not torch.equal(*clips)


def test_latents_without_their_clip_are_decoded_whole(model, pictures):
    _, audio, _ = make(model, pictures[:1])
    (sound,) = run("DecodeAudio", model=model, audio={"samples": audio["samples"]})[0]  # as from Load Latent
    assert sound["waveform"].shape[-1] == audio["samples"].shape[2] * 4 * 160


def test_video_latents_are_unscaled_as_stock_nodes_take_and_give_them(model, pictures):
    video, *_ = make(model, pictures[:1])
    vae = model.pipe.video_vae
    (images,) = run("DecodeVideo", model=model, video={"samples": video["samples"]})[0]  # as from Load Latent
    with torch.inference_mode():
        decoded = vae.decode(video["samples"], num_frames=4).sample  # as the stock VAE Decode
    torch.testing.assert_close(images, (decoded.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1), rtol=0, atol=0.6 / 255)
    frames = torch.rand(5, 40, 48, 3)
    with torch.inference_mode():
        encoded = vae.encode(frames.permute(0, 3, 1, 2) * 2 - 1).latent_dist.mode()  # as the stock VAE Encode
        again = vae.decode(encoded, num_frames=5).sample
    (images,) = run("DecodeVideo", model=model, video={"samples": encoded})[0]
    torch.testing.assert_close(images, (again.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1), rtol=0, atol=0.6 / 255)


def test_a_cancel_acts_before_the_next_block_and_nothing_stays(model, pictures):
    """Within the first of many steps, and within the decoders: after the interrupt not one more block computes."""
    conditions, _ = run("Condition", model=model, image=pictures[:1], **SHAPE)
    video, audio, _ = make(model, pictures[:1])
    for kind, given, names in (
        ("Sample", {"conditions": conditions, "steps": 1}, ("video_unet", "audio_unet", "joint_blocks")),
        ("DecodeVideo", {"video": video}, ("video_vae",)),
        ("DecodeAudio", {"audio": audio}, ("audio_vae", "vocoder")),
    ):
        parts = [part for name in names for part in getattr(model.pipe, name).modules()]
        blocks = [each for part in parts if isinstance(part, torch.nn.ModuleList) for each in part]
        begun, record.interrupt_after = [], 6  # checks, the first of them before anything is computed
        handles = [block.register_forward_hook(partial(note, begun)) for block in blocks]
        with pytest.raises(manager.InterruptProcessingException):
            run(kind, model=model, **given)
        for handle in handles:
            handle.remove()
        assert 0 < len(begun) <= 6 < len(blocks), kind
        assert not any(part._forward_pre_hooks for part in parts), kind


def note(calls, *call):
    calls.append(call)


def test_noise_levels_of_another_model_are_refused(model, pictures):
    with pytest.raises(ValueError, match="sigmas start at 14.6, but this model starts at 700; .*sigma_max 700"):
        make(model, pictures[:1], sigmas=torch.tensor([14.6, 1.0, 0.0]))


def test_sync_pulls_the_sound_of_experts_that_no_joint_block_joins(model, pictures, trained):
    plain, off, own, strong = (
        make(model, pictures[:1], **sync)[1]["samples"] for sync in ({}, {"sync": 0.0}, {"sync": -1.0}, {"sync": 0.5})
    )
    assert torch.equal(plain, off) and torch.equal(own, strong) and not torch.equal(plain, own)
    with torch.inference_mode():  # as an eviction for another node does
        model.pipe.audio_vae.double().float()
    assert torch.equal(make(model, pictures[:1], sync=0.5)[1]["samples"], strong)
    joined = run("LoadExperts", **EXPERTS, joint_blocks="trained.safetensors")[0]
    without, own = (make(joined, pictures[:1], **sync)[1]["samples"] for sync in ({}, {"sync": -1.0}))
    assert torch.equal(without, own)


def test_a_given_sound_is_not_pulled(model, pictures):
    sound = {"waveform": torch.rand(1, 1, 8000), "sample_rate": 16000}
    make(model, pictures[:1], condition={"audio": sound}, sync=-1.0)
    with pytest.raises(ValueError, match="the sound is given"):
        make(model, pictures[:1], condition={"audio": sound}, sync=0.5)


def test_precision_that_these_layers_lack_is_told_and_not_silently_the_largest(models, monkeypatch, caplog):
    monkeypatch.setattr(manager, "unet_dtype", lambda device, supported_dtypes: torch.float8_e4m3fn)
    loaded = run("LoadExperts", **EXPERTS, joint_blocks="none (identity)")[0]
    assert loaded.pipe.video_unet.dtype == torch.bfloat16
    assert "no torch.float8_e4m3fn weights; they are kept in torch.bfloat16" in caplog.text


def test_autoencoders_and_text_encoders_follow_the_options_of_comfyui(models, pictures, monkeypatch):
    monkeypatch.setattr(comfy.cli_args.args, "bf16_vae", True)
    monkeypatch.setattr(comfy.cli_args.args, "bf16_text_enc", True)
    loaded = run("LoadExperts", **EXPERTS, joint_blocks="none (identity)")[0]
    video, audio, _ = make(loaded, pictures[:1], condition={"prompt": "a ball"})
    (images,) = run("DecodeVideo", model=loaded, video=video)[0]
    (sound,) = run("DecodeAudio", model=loaded, audio=audio)[0]
    assert images.isfinite().all() and sound["waveform"].isfinite().all()
    pipe = loaded.pipe
    assert pipe.video_unet.dtype == torch.float32
    assert {pipe.video_vae.dtype, pipe.audio_vae.dtype, pipe.text_encoder.dtype} == {torch.bfloat16}
    asked = run("LoadExperts", **EXPERTS, joint_blocks="none (identity)", precision="float32")[0]
    assert asked.pipe.video_vae.dtype == torch.float32


def test_the_printed_command_runs_as_it_is_printed(models, tmp_path):
    with pytest.raises(ValueError) as raised:
        run("LoadExperts", **EXPERTS | {"video_expert": "nope"}, joint_blocks="none (identity)")
    command = str(raised.value).partition("fetch it with: ")[2]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PATH")}
    shell = ["/bin/sh", "-c", f"{command} --help"]
    done = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "--single-file" in done.stdout, done.stderr


@pytest.mark.parametrize("samples", [4000, 12000])
def test_mux_makes_sound_and_picture_end_together(samples):
    sound = {"waveform": torch.ones(1, 2, samples), "sample_rate": 16000}
    (video,) = run("Mux", images=torch.zeros(4, 8, 8, 3), audio=sound, fps=8.0)
    assert video.get_components().audio["waveform"].shape == (1, 2, 8000)


@pytest.mark.parametrize("mode", ["none", "cfg", "joint-cfg", "joint-cfg-star"])
def test_every_guidance_mode_with_its_own_scales(model, pictures, mode):
    widget = NODES["JointDiTJointCFG"].define_schema().inputs[0]
    (option,) = (each for each in widget.options if each.key == mode)
    chosen = {"mode": mode} | {each.id: each.default for each in option.inputs}
    (guidance,) = run("JointCFG", mode=chosen)
    assert guidance.mode == mode and guidance.scales == DEFAULTS[mode], "what is left at -1 is for the model to say"
    given = {key: 2.0 for key in chosen if key != "mode"}
    prompt = {} if mode == "none" else {"video_prompt_scale": 3.0}
    (other,) = run("JointCFG", mode=chosen | given, rescale=0.5, **prompt)
    assert (guidance.rescale, other.rescale) == (None, 0.5) and other.scales == given | prompt
    video, _, _ = make(model, pictures[:1], guidance=guidance)
    assert video["samples"].isfinite().all()


def test_any_scheduler_sets_the_levels(model, pictures):
    sigmas = torch.tensor([700.0, 30.0, 1.0, 0.0])
    record.shown.clear()
    make(model, pictures[:1], sigmas=sigmas, sampler="dpmpp_2m")
    whole = dict.fromkeys(shown[:2] for shown in record.shown if shown[0] in (1, 2, 3))
    assert list(whole) == [(1, 3), (2, 3), (3, 3)]


def test_zero_and_left_out_values_are_the_models_own(model, pictures, monkeypatch):
    own = replace(model.pipe.defaults, steps=3, audio_start=700.0, video_temperature=0.5)
    monkeypatch.setattr(model.pipe, "defaults", own)
    video, audio, _ = make(model, pictures[:1], steps=0)
    same, _, _ = make(model, pictures[:1], steps=3, video_temperature=0.5)
    warmer, _, _ = make(model, pictures[:1], steps=3, video_temperature=1.0)
    _, even, _ = make(model, pictures[:1], steps=3, audio_grid="even")
    assert torch.equal(video["samples"], same["samples"])
    assert not torch.equal(video["samples"], warmer["samples"])
    assert not torch.equal(audio["samples"], even["samples"])


def test_every_step_shows_a_frame_over_the_loudness(model, pictures):
    record.shown.clear()
    make(model, pictures[:1])
    previews = [(done, preview) for done, total, preview in record.shown if preview and total == 2]
    assert {1, 2} <= {done for done, _ in previews}
    kind, picture, size = previews[-1][1]
    assert kind == "JPEG" and max(picture.size) == size == 512
    frame, strip = np.split(np.asarray(picture), [-64])
    assert frame.std() > 1
    drawn = {tuple(colour) for colour in strip.reshape(-1, 3).tolist()}
    assert (255, 255, 255) in drawn <= {(32, 32, 32), (106, 176, 243), (255, 255, 255)}


def test_the_curve_under_the_frame_follows_a_loud_and_a_silent_half(videos):
    tiny = run("LoadModel", model="tiny")[0]
    noise = torch.rand(1, 1, 25600, generator=torch.Generator().manual_seed(0)) - 0.5
    noise[..., : 25600 // 2] = 0
    sound = {"waveform": noise, "sample_rate": 16000}
    conditions, _ = run("Condition", model=tiny, image=torch.rand(1, 64, 64, 3), audio=sound, window=0)
    record.shown.clear()
    run("Sample", model=tiny, conditions=conditions, steps=1)
    strip = np.asarray(next(preview for *_, preview in record.shown if preview)[1])[-64:]
    heights = (strip == (106, 176, 243)).all(2).sum(0)
    middle, edge = len(heights) // 2, 50
    assert heights[edge : middle - edge].max() < 10 < 25 < heights[middle + edge : -edge].min()


def test_a_preview_plays_within_a_step(model, pictures, monkeypatch):
    clock = iter(range(10**6))  # a sixteenth of a second passes at each look at it
    monkeypatch.setattr(library("nodes.work.progress").time, "monotonic", lambda: next(clock) / 16)
    record.shown.clear()
    make(model, pictures[:1])
    within = [np.asarray(preview[1]) for done, total, preview in record.shown if preview and 1 < done < 2]
    lines = {int((picture[-64:] == 255).all((0, 2)).nonzero()[0].mean()) for picture in within}
    assert len(lines) == SHAPE["frames"] < len(within)


def test_a_film_shows_the_frame_of_its_time():
    frames = np.full((4, 6, 8, 3), np.arange(4, dtype=np.uint8)[:, None, None, None] * 50)
    film = library("nodes.work.progress").Film(frames, np.float32([0, 1, 0.5]), 8.0)
    shown = [np.asarray(film.at(frame / 8 + 0.01, 128)) for frame in range(6)]
    assert [int(picture[0, 0, 0]) for picture in shown] == [0, 50, 100, 150, 0, 50]
    assert all(picture.shape == (112, 128, 3) for picture in shown)
    heights = (shown[0][-16:] == (106, 176, 243)).all(2).sum(0)
    assert heights[2] <= 1 and heights[64] >= 15 and 6 < heights[125] < 10


def test_no_preview_is_shown_where_the_page_is_set_to_none(model, pictures, monkeypatch):
    monkeypatch.setitem(record.extra_data, "preview_method", "none")
    record.shown.clear()
    make(model, pictures[:1])
    retake(model)
    assert {shown[:2] for shown in record.shown} >= {(1, 2), (2, 2)}
    assert not any(preview for *_, preview in record.shown)


@pytest.mark.parametrize("checks", [0, 2])
def test_after_an_interrupt_the_next_run_is_as_always(model, pictures, checks):
    before, *_ = make(model, pictures[:1])
    conditions, _ = run("Condition", model=model, image=pictures[:1], **SHAPE)
    record.interrupt_after = checks
    with pytest.raises(manager.InterruptProcessingException):
        run("Sample", model=model, conditions=conditions, steps=4)
    again, *_ = make(model, pictures[:1])
    assert torch.equal(before["samples"], again["samples"])


def test_an_interrupt_stops_the_decoder_at_its_chunk(model, pictures):
    video, *_ = make(model, pictures[:1])
    checks = run_checks(model, video)
    record.interrupt_after = checks // 2  # of four chunks
    record.shown.clear()
    with pytest.raises(manager.InterruptProcessingException):
        run("DecodeVideo", model=model, video=video, chunk_size=1)
    assert 0 < record.shown[-1][0] < 4


def run_checks(model, video):
    """How often a whole decoding asks whether it is cancelled."""
    record.interrupt_after = 10**6
    run("DecodeVideo", model=model, video=video, chunk_size=1)
    checks, record.interrupt_after = 10**6 - record.interrupt_after, None
    return checks


def test_decoding_goes_on_with_fewer_frames_when_memory_is_short(model, pictures, monkeypatch, caplog):
    video, *_ = make(model, pictures[:1])
    vae = model.pipe.video_vae
    decode, asked = vae.decode, []

    def short(latents, num_frames):
        asked.append(num_frames)
        if num_frames > 1:
            raise torch.OutOfMemoryError
        return decode(latents, num_frames=num_frames)

    monkeypatch.setattr(vae, "decode", short)
    (images,) = run("DecodeVideo", model=model, video=video, chunk_size=4, overlap=3)[0]
    assert images.shape == (4, 40, 48, 3) and asked[:2] == [4, 2] and set(asked[2:]) == {1}
    assert "trying 1" in caplog.text


def test_components_are_loaded_where_they_are_used(model, pictures):
    assert model.loudness  # which is read from the audio autoencoder once
    record.loaded.clear()
    conditions, _ = run("Condition", model=model, image=pictures[:1], **SHAPE)
    assert "CLIPVisionModelWithProjection" in record.loaded and "ClapModel" in record.loaded
    assert not any("UNet" in name for name in record.loaded)
    record.loaded.clear()
    video, audio = run("Sample", model=model, conditions=conditions, steps=1)
    assert sorted(record.loaded) == [
        "AudioLDM2UNet2DConditionModel",
        "JointBlocks",
        "UNetSpatioTemporalConditionModel",
    ]
    record.loaded.clear()
    run("DecodeVideo", model=model, video=video)
    run("DecodeAudio", model=model, audio=audio)
    assert record.loaded == ["AutoencoderKLTemporalDecoder", "AutoencoderKL", "SpeechT5HifiGan"]


def test_texts_are_encoded_while_other_components_rest_elsewhere(models):
    pipe = run("LoadExperts", video_expert="svd", audio_expert="audioldm2", joint_blocks="none (identity)")[0].pipe
    for component in (pipe.audio_vae, pipe.audio_unet, pipe.vocoder):
        component.to("meta")
    assert pipe.encode_text(["rain"]).audio_embeds.device.type == "cpu"


def test_loaders_load_nothing_to_a_device_and_weights_can_be_trained(models):
    record.loaded.clear()
    model = run("LoadExperts", video_expert="svd", audio_expert="audioldm2", joint_blocks="none (identity)")[0]
    assert record.loaded == []
    assert not any(weight.is_inference() for weight in model.pipe.model.parameters())
    weight = next(model.pipe.model.joint_blocks.parameters())
    weight.square().sum().backward()
    assert weight.grad is not None


def test_the_servers_log_names_what_it_loads(model):
    names = {type(patcher.model).__name__ for patcher in model.patchers.values()}
    assert {"JointDiT video unet", "JointDiT audio vae", "JointDiT joint blocks"} < names
    assert len(names) == len(model.patchers)


def test_attention_is_the_one_that_comfyui_was_started_with(models, model, pictures, monkeypatch):
    plain, _, _ = make(model, pictures[:1])
    calls = []

    def recorded(*args, **kwargs):
        calls.append(args[0].shape)
        return attention.attention_split(*args, **kwargs)

    monkeypatch.setattr(attention, "optimized_attention", recorded)
    monkeypatch.setattr(comfy.cli_args.args, "use_split_cross_attention", True)
    split = run("LoadExperts", video_expert="svd", audio_expert="audioldm2", joint_blocks="none (identity)")[0]
    video, _, _ = make(split, pictures[:1])
    assert calls and all(block.query_chunk for block in split.pipe.joint_blocks.blocks)
    torch.testing.assert_close(video["samples"], plain["samples"], rtol=1e-3, atol=1e-3)


def test_numbers_out_of_range_are_an_error_and_no_black_silent_clip(models, pictures):
    broken = run("LoadExperts", video_expert="svd", audio_expert="audioldm2", joint_blocks="none (identity)")[0]
    with torch.no_grad():
        broken.pipe.audio_unet.conv_out.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="left the range.*bfloat16"):
        make(broken, pictures[:1])


def test_models_travel_between_comfyui_and_the_command_line(model, models, tmp_path):
    model.pipe.save_pretrained(tmp_path / "inside")  # by the pack's own copy of the library
    outside = JointDiTPipeline.from_pretrained(tmp_path / "inside")
    outside.save_pretrained(models / "jointdit" / "outside")
    back = run("LoadModel", model="outside")[0]
    assert type(outside.joint_blocks) is not type(back.pipe.joint_blocks)
    for one, other in zip(outside.model.parameters(), back.pipe.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_changed_model_is_loaded_again(models):
    node = NODES["JointDiTLoadExperts"]
    chosen = {"video_expert": "svd", "audio_expert": "audioldm2", "joint_blocks": "none (identity)"}
    before = node.fingerprint_inputs(**chosen, precision="auto")
    assert before == node.fingerprint_inputs(**chosen, precision="auto")
    (models / "diffusers/svd/unet/config.json").touch()
    assert before != node.fingerprint_inputs(**chosen, precision="auto")


def test_single_files_of_the_video_expert_are_listed_and_loaded(models, monkeypatch):
    for name, config in SMALL_CONFIGS.items():
        monkeypatch.setitem(library("jointdit.checkpoints.single_file").CONFIGS, name, config)
    name, node = "video/svd_xt.safetensors", NODES["JointDiTLoadExperts"]
    path = models / "checkpoints" / name
    path.parent.mkdir(parents=True)
    write_single_file(path)
    assert node.define_schema().inputs[0].options == ["svd", name]
    model = run("LoadExperts", video_expert=name, audio_expert="audioldm2", joint_blocks="none (identity)")[0]
    assert model.pipe.defaults.frames == 25
    path.unlink()
    with pytest.raises(ValueError, match="svd_xt.safetensors' is not there"):
        run("LoadExperts", video_expert=name, audio_expert="audioldm2", joint_blocks="none (identity)")


def test_joint_files_and_adapters_are_listed_unless_they_are_half_written(models):
    written = ("mine.safetensors", ".0123456789ab.safetensors", "both/video.safetensors", "both/audio.safetensors")
    written += ("sound/audio.safetensors", "unfinished/.0123456789ab.safetensors")
    for name in written:
        path = models / "jointdit" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    model, experts = (inputs_of(NODES[f"JointDiT{name}"]) for name in ("LoadModel", "LoadExperts"))
    for name in written:
        (models / "jointdit" / name).unlink()
    for name in ("both", "sound", "unfinished"):
        (models / "jointdit" / name).rmdir()
    assert experts["joint_blocks"].options == ["none (identity)", "mine.safetensors"]
    assert model["joint_blocks"].options == ["model's own", "none (identity)", "mine.safetensors"]
    for inputs in (model, experts):
        assert inputs["adapters"].options == ["none (experts unchanged)", "both", "sound"]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("Condition", {"image": None, "video": None}, "both image and video are connected"),
        ("Condition", {"video": None, "audio": None}, "nothing is left to make"),
        ("CacheLatents", {"name": "../cache"}, "name is '../cache'.*letters"),
        ("CacheLatents", {"name": "CON"}, "name is 'CON'.*Windows"),
        ("Train", {"name": "/etc/x"}, "name is '/etc/x'.*letters"),
        ("Train", {"name": ""}, "name is ''"),
        ("Train", {"name": "lpt1"}, "name is 'lpt1'.*Windows"),
        ("LoadModel", {"model": "../../etc"}, "'../../etc' is not there.*tiny.*jointdit"),
    ],
)
def test_wrong_values_are_refused_before_anything_runs(videos, name, given, message):
    good = {
        "Condition": {"image": None},
        "CacheLatents": {"name": "cache"},
        "Train": {"name": "blocks"},
        "LoadModel": {"model": "tiny"},
    }[name]
    validate = NODES[f"JointDiT{name}"].validate_inputs
    assert validate(**good) is True
    if name != "Condition":
        assert validate(**dict.fromkeys(good)) is True, "what is linked is known only later"
    answer = validate(**given)
    assert isinstance(answer, str) and re.search(message, answer), answer


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_a_complaint_is_about_the_input_that_it_is_shown_at(node):
    """ComfyUI shows what `validate_inputs` returns at every input that it takes."""
    if hasattr(node, "validate_inputs"):
        taken = set(inspect.signature(node.validate_inputs).parameters)
        if node.define_schema().node_id == "JointDiTLoadExperts":
            assert node.validate_inputs(**dict.fromkeys(taken, "nope")) is True  # it has its say when it runs
            return
        assert len(taken) == 1 or taken == {"image", "video", "audio"}  # of which only those that are connected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": 50}, "size is 50x40.*use 48x40"),
        ({"frames": 1}, "frames is 1.*at least 2"),
        ({"fps": 500.0}, "fps is 500.*to 240"),
        ({"fps": 0.001}, "4 frames at 0.001 fps last 4000 s, too long.*at most 60 s.*fewer frames or more fps"),
    ],
)
def test_a_shape_that_makes_no_clip_is_refused_before_anything_is_computed(model, videos, pictures, given, message):
    record.loaded.clear()
    with pytest.raises(ValueError, match=message):
        run("Condition", model=model, image=pictures[:1], **SHAPE | given)
    with pytest.raises(ValueError, match=message):
        run("CacheLatents", model=model, videos="mine", layout="classes", name="never", **SHAPE | given)
    assert not record.loaded and not (videos / "output" / "jointdit" / "caches" / "never").exists()


def test_all_that_is_missing_of_the_experts_is_named_at_once(models):
    with pytest.raises(ValueError) as raised:
        run("LoadExperts", video_expert="nope", audio_expert="svd", joint_blocks="model's own", adapters="../diffusers")
    message = str(raised.value)
    assert re.search("'nope' is not there.*fetch-models svd-xt --to .*diffusers", message)
    assert re.search("'svd' is not there.*fetch-models audioldm2 --to .*diffusers", message)
    assert re.search("put the file into .*jointdit", message)
    assert re.search(r"put the folder \(with video.safetensors or audio.*jointdit", message)
    with pytest.raises(ValueError, match="fetch-models svd-xt --single-file --to .*checkpoints"):
        run("LoadExperts", **EXPERTS | {"video_expert": "svd_xt.safetensors"}, joint_blocks="none (identity)")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"adapters": "/etc"}, "'/etc' is not there.*put the folder"),
        ({"joint_blocks": "../x.safetensors"}, "'../x.safetensors' is not there.*model's own.*identity"),
    ],
)
def test_only_what_is_listed_is_opened(given, message):
    with pytest.raises(ValueError, match=message):
        run("LoadModel", model="tiny", **given)


@pytest.mark.parametrize(
    ("videos_folder", "message"),
    [
        ("../models", r"no folder '../models'.*\(found: mine\).*put videos into"),
        ("empty", "no folder 'empty' with videos"),
    ],
)
def test_only_folders_of_videos_in_the_input_folder_are_read(model, videos, videos_folder, message):
    with pytest.raises(ValueError, match=message):
        run("CacheLatents", model=model, videos=videos_folder, layout="classes", name="cache", **SHAPE)


def test_a_training_that_would_be_refused_stops_the_cache_before_it(model, videos, monkeypatch):
    training = {"class_type": "JointDiTTrain", "inputs": {"name": "a/b", "cache": ["1", 0]}}
    holder = type(NODES["JointDiTCacheLatents"].hidden)(prompt={"2": training})
    monkeypatch.setattr(NODES["JointDiTCacheLatents"], "hidden", holder)
    with pytest.raises(ValueError, match="JointDiT Train: name is 'a/b'"):
        cache_of(model, "unwanted")
    assert not (videos / "output" / "jointdit" / "caches" / "unwanted").exists()


def test_wrong_numbers_of_guidance_and_of_decoding_are_refused(model, pictures):
    with pytest.raises(ValueError, match="lower and a higher"):
        run("JointCFG", mode={"mode": "cfg"}, sigma_low=5.0, sigma_high=1.0)
    video, *_ = make(model, pictures[:1])
    with pytest.raises(ValueError, match="overlap is 4.*chunk_size, 4"):
        run("DecodeVideo", model=model, video=video, chunk_size=4, overlap=4)


def test_every_size_that_the_widget_steps_to_fits_the_bundled_model():
    pipe, inputs = run("LoadModel", model="tiny")[0].pipe, inputs_of(NODES["JointDiTCondition"])
    for name in ("width", "height"):
        assert inputs[name].step % pipe.layout.video_factor == 0


@pytest.mark.parametrize("name", ["DecodeVideo", "DecodeAudio"])
def test_latents_of_another_kind_are_refused(model, name):
    given = {"DecodeVideo": "video", "DecodeAudio": "audio"}[name]
    with pytest.raises(ValueError, match="this model needs"):
        run(name, model=model, **{given: {"samples": torch.zeros(1, 7, 3, 4)}})


def test_neither_picture_nor_video_is_refused(model):
    with pytest.raises(ValueError, match="connect image or video"):
        run("Condition", model=model, **SHAPE)


def cache_of(model, name="cache"):
    return run("CacheLatents", model=model, videos="mine", layout="classes", name=name, **SHAPE)


def train(model, name, **settings):
    return run("Train", model=model, cache=cache_of(model)[0], name=name, **{"steps": 3, "batch": 2} | settings)


def test_of_a_published_set_only_the_part_for_training_is_taken(model, videos):
    clips = sorted((videos / "input" / "mine" / "a ball").glob("?.mp4"))
    for part, clip in zip(("train", "train", "test"), clips, strict=True):
        place = videos / "input" / "published" / part / "a ball" / clip.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, place)
    given = {"videos": "published", "layout": "landscape", "name": "published"}
    folder, report = run("CacheLatents", model=model, **given, **SHAPE)
    assert report == "4 clips of 2 files" and read_split(folder) == "train"
    _, file = run("Train", model=model, cache=folder, name="published", steps=1, batch=2, held_out=2)
    assert file == "published.safetensors"


def test_a_cache_tells_what_is_in_it_and_what_was_left_out(model, videos):
    folder, report = cache_of(model)
    assert folder == videos / "output" / "jointdit" / "caches" / "cache"
    first, second = report.splitlines()
    assert first == "6 clips of 3 files" and "broken.mp4" in second
    record.shown.clear()
    assert cache_of(model) == (folder, report)
    assert record.shown[-1][:2] == (4, 4)


def test_a_stopped_cache_goes_on(model, videos):
    record.interrupt_after = 2
    with pytest.raises(manager.InterruptProcessingException):
        cache_of(model, "stopped")
    assert cache_of(model, "stopped")[1] == cache_of(model)[1]


def test_a_cache_without_a_clip_says_why(model, videos):
    with pytest.raises(ValueError, match="not one clip.*lasts 1.00 s"):
        run("CacheLatents", model=model, videos="mine", layout="classes", name="long", **SHAPE | {"frames": 40})


def test_training_writes_joint_blocks_that_other_nodes_load_and_leaves_the_model_alone(model, models, videos):
    before = {name: weight.clone() for name, weight in model.pipe.model.state_dict().items()}
    record.shown.clear()
    trained, file = train(model, "blocks")
    assert file == "blocks.safetensors" and [shown[:2] for shown in record.shown[-3:]] == [(1, 3), (2, 3), (3, 3)]
    assert all(torch.equal(weight, before[name]) for name, weight in model.pipe.model.state_dict().items())
    again = run("LoadExperts", video_expert="svd", audio_expert="audioldm2", joint_blocks=file)[0]
    ours, theirs = trained.pipe.joint_blocks.state_dict(), again.pipe.joint_blocks.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(not torch.equal(ours[name], before[f"joint_blocks.{name}"]) for name in ours)
    assert not any(part.training for part in (model.pipe.video_unet, model.pipe.audio_unet, trained.pipe.joint_blocks))
    shared = trained.patchers.keys() - {"joint_blocks"}
    assert shared and all(trained.patchers[name] is model.patchers[name] for name in shared)


def test_a_cancelled_training_goes_on_to_the_same_numbers(model, models, videos):
    train(model, "straight", save_every=1)
    cache = cache_of(model)[0]
    record.interrupt_after = 2  # at the start, after the first step, after the second
    with pytest.raises(manager.InterruptProcessingException):
        run("Train", model=model, cache=cache, name="cancelled", steps=3, batch=2)
    assert not (models / "jointdit" / "cancelled.safetensors").exists()
    assert (videos / "output" / "jointdit" / "training" / "cancelled" / "state.safetensors").exists()
    record.shown.clear()
    train(model, "cancelled")
    assert [shown[:2] for shown in record.shown[-1:]] == [(3, 3)]
    one, other = (load_file(models / "jointdit" / f"{name}.safetensors") for name in ("straight", "cancelled"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def engines(monkeypatch):
    """Of the trainings from now on."""
    made, module = [], library("nodes.work.train")

    class Kept(module.Engine):
        def __post_init__(self):
            super().__post_init__()
            made.append(self)

    monkeypatch.setattr(module, "Engine", Kept)
    return made


def test_less_memory_in_training_changes_the_result_only_where_it_is_said_to(model, models, videos, engines):
    settings = {"whole": {}, "chunked": {"query_chunk": 7}, "pooled": {"video_pool": 2}}
    settings["parts"] = {"memory": "fixed", "micro_batch": 1, "gradient_checkpointing": True}
    weights = {}
    for name, chosen in settings.items():
        train(model, name, steps=2, **chosen)
        weights[name] = load_file(models / "jointdit" / f"{name}.safetensors")
    used = [{(block.query_chunk, block.video_pool) for block in each.pipe.joint_blocks.blocks} for each in engines]
    assert used == [{(None, 1)}, {(7, 1)}, {(None, 2)}, {(None, 1)}]
    thrift = [(each.micro_batch, each.pipe.model.gradient_checkpointing) for each in engines]
    assert thrift == [(2, False)] * 3 + [(1, True)]
    for name, whole in weights["whole"].items():
        torch.testing.assert_close(weights["chunked"][name], whole)
        torch.testing.assert_close(weights["parts"][name], whole)
    assert any(not torch.equal(weights["pooled"][name], whole) for name, whole in weights["whole"].items())
    with pytest.raises(ValueError, match="video_pool 2 .now 1.*another output"):
        train(model, "pooled", steps=2)


def test_words_of_training_are_the_librarys():
    inputs, known = inputs_of(NODES["JointDiTTrain"]), get_type_hints(TrainingConfig)
    for name in ("stage", "precision", "memory"):
        assert set(inputs[name].options) == set(get_args(known[name])), name


@pytest.mark.parametrize("rank", [2, 0], ids=("adapters", "whole"))
def test_in_stage_b_the_experts_learn_and_the_given_ones_stay(model, models, videos, rank):
    if rank:
        pytest.importorskip("peft")
    before = {name: weight.clone() for name, weight in model.pipe.model.state_dict().items()}
    name = f"experts_{rank}"
    trained, result = train(model, name, stage="b", adapter_rank=rank, steps=2, rate=1e-3)
    assert all(torch.equal(weight, before[key]) for key, weight in model.pipe.model.state_dict().items())
    assert not any(part.training for part in (model.pipe.video_unet, trained.pipe.video_unet))
    if rank:
        assert result == f"{name}.safetensors"
        again = run("LoadExperts", **EXPERTS, joint_blocks=result, adapters=name)[0]
    else:
        assert result == name
        again = run("LoadModel", model=name)[0]
    ours, theirs = trained.pipe.model.state_dict(), again.pipe.model.state_dict()
    assert ours.keys() == theirs.keys() == before.keys()
    assert all(torch.equal(weight, theirs[key]) for key, weight in ours.items())
    changed = {key.partition(".")[0] for key, weight in ours.items() if not torch.equal(weight, before[key])}
    assert changed == {"video_unet", "audio_unet", "joint_blocks"}
    assert trained.patchers["video_vae"] is model.patchers["video_vae"]


def test_training_computes_in_the_precision_that_is_asked_for(model, models, videos, engines):
    train(model, "asked", steps=1, precision="bfloat16")
    assert engines[0].accelerator.mixed_precision == "bf16"
    assert engines[0].trained.blocks[0].video.modulation.bias.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"micro_batch": 1}, "chosen where memory is auto; set memory to fixed"),
        ({"gradient_checkpointing": True}, "chosen where memory is auto; set memory to fixed"),
        ({"adapter_rank": 4}, "adapter_rank is 4, but must be 0 in stage a"),
        ({"precision": "float16"}, "float16 trains on a GPU alone"),
    ],
    ids=("parts", "checkpointing", "adapters", "float16"),
)
def test_settings_of_training_that_do_not_go_together_are_refused_in_one_line(model, videos, settings, message):
    with pytest.raises(ValueError, match=message) as raised:
        train(model, "never", **settings)
    assert "\n" not in str(raised.value)
    assert not (videos / "output" / "jointdit" / "training" / "never").exists()


def test_training_in_float32_needs_a_model_in_float32(models, videos):
    half = run("LoadExperts", **EXPERTS, precision="bfloat16")[0]
    with pytest.raises(ValueError, match="precision is float32, but the model's is not; .*load node"):
        run("Train", model=half, cache=cache_of(half, "half")[0], name="never", steps=1, batch=1, precision="float32")


def test_a_folder_that_no_training_wrote_is_not_replaced(model, models, videos):
    folder = models / "jointdit" / "dear_model"
    folder.mkdir()
    with pytest.raises(ValueError, match="dear_model is there.*take another name"):
        train(model, "dear_model", stage="b")
    folder.rmdir()


def test_weights_that_others_moved_in_inference_mode_can_be_trained(models, videos):
    moved = run("LoadExperts", video_expert="svd", audio_expert="audioldm2", joint_blocks="none (identity)")[0]
    with torch.inference_mode():  # as an eviction for another node does
        moved.pipe.video_unet.double().float()
    assert all(weight.is_inference() for weight in moved.pipe.video_unet.parameters())
    train(moved, "moved", steps=1)


def test_in_lower_precision_the_audio_expert_trains_in_full(models, videos, monkeypatch):
    monkeypatch.setattr(manager, "should_use_bf16", lambda device: True)
    half = run("LoadExperts", **EXPERTS, precision="bfloat16")[0]
    with torch.inference_mode():  # as an eviction for another node does
        half.pipe.audio_unet.double().bfloat16()
    cache = cache_of(half, "half")[0]
    _, file = run("Train", model=half, cache=cache, name="half", steps=2, batch=2, rate=0.1)
    assert half.pipe.audio_unet.dtype == torch.bfloat16
    pipe = library_pipe(models, dtype=torch.bfloat16)
    pipe.audio_unet.float()
    options = {"steps": 2, "batch": 2, "rate": 0.1, "held_out": 1, "precision": "bfloat16", "samples": 0}
    options |= {"cache": str(cache), "output": str(videos / "half"), "tensorboard": "false"}
    config = read_config(TEMPLATES["a"], {name: str(value) for name, value in options.items()})
    engine = Engine(pipe, LatentCache(cache), config, make_accelerator("bfloat16", cpu=True))
    engine.train()
    ours, theirs = load_file(models / "jointdit" / file), load_file(engine.export())
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_file_that_no_training_wrote_is_not_replaced(model, models, videos):
    path = models / "jointdit" / "dear.safetensors"
    path.write_bytes(b"dear")
    assert "take another name" in NODES["JointDiTTrain"].validate_inputs(name="dear")
    with pytest.raises(ValueError, match="take another name"):
        train(model, "dear")
    assert path.read_bytes() == b"dear"
    path.unlink()


def test_a_cache_of_another_model_is_refused(model, videos):
    folder = cache_of(model)[0]
    tiny = run("LoadModel", model="tiny")[0]
    with pytest.raises(ValueError, match="another model's encoders"):
        run("Train", model=tiny, cache=folder, name="other", steps=1, batch=1)


def test_the_loss_is_shown_as_a_curve():
    curve = library("nodes.work.progress").LossCurve()
    pictures = [np.asarray(curve.draw(1 / (1 + step))) for step in range(600)]
    assert all(picture.shape == (256, 512, 3) for picture in pictures)
    rows = [np.flatnonzero(pictures[-1][40:, column, 2] > 200) for column in (30, 480)]
    assert rows[0].max() < rows[1].min()  # it falls from left to right


def test_a_loss_that_stays_is_shown_as_a_level_line():
    curve = library("nodes.work.progress").LossCurve()
    picture = [np.asarray(curve.draw(0.25)) for _ in range(3)][-1]
    assert (picture[40:, 24:488, 2] > 200).any(0).all()


def test_the_sync_report_has_the_scores_of_the_library():
    scene = render_scene(4, effect="hammer", frames=24, fps=12, height=48, width=64)
    clip = Clip(scene.frames, scene.fps, scene.audio[None], scene.sample_rate)
    sound = {"waveform": torch.from_numpy(clip.audio)[None], "sample_rate": clip.sample_rate}
    plot, report, onset_align, correlation = run(
        "SyncReport", images=torch.from_numpy(clip.frames).float() / 255, audio=sound, fps=12.0
    )
    scores = score_clip(clip)
    assert (onset_align, correlation) == (scores.onset_align, scores.motion_loudness) and scores.hits > 1
    assert report.splitlines()[:-1] == scores.lines() and "proves little" in report
    assert np.array_equal((plot[0] * 255).round().byte().numpy(), draw_sync(clip))
    with pytest.raises(ValueError, match="2 frames show no motion"):
        run("SyncReport", images=torch.zeros(2, 8, 8, 3), audio=sound, fps=12.0)


def test_the_sync_report_names_the_packages_that_it_lacks_with_a_command(monkeypatch):
    for name in [name for name in sys.modules if ".jointdit.evaluate" in name or name.endswith(".work.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    sound = {"waveform": torch.zeros(1, 1, 8000), "sample_rate": 16000}
    with pytest.raises(ValueError, match=r"lacks matplotlib; get it with: .*python.* -m pip install matplotlib$"):
        run("SyncReport", images=torch.zeros(4, 8, 8, 3), audio=sound, fps=8.0)


def load_elsewhere(*missing, version="0.33.0"):
    """The pack loaded in another Python that lacks these packages: how many nodes there are, or the error."""
    command = [sys.executable, "-c", ELSEWHERE, str(STAND_IN.parent), version, *missing]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode else int(done.stdout.split()[-1])


def test_the_start_of_comfyui_imports_nothing_that_is_only_for_running_a_node():
    """ComfyUI has torch, numpy, PIL and av by then; diffusers with all that it imports would take it seconds."""
    heavy = ("diffusers", "transformers", "accelerate", "peft", "torchvision", "scipy", "skimage", "matplotlib")
    command = [sys.executable, "-c", f"{ELSEWHERE}\nprint(*sys.modules)", str(STAND_IN.parent), "0.33.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, names = done.stdout.splitlines()
    imported = {name.partition(".")[0] for name in names.split()}
    assert int(count) == len(GOLDEN) and "torch" in imported and not imported & {*heavy}


def test_missing_packages_cost_nothing_where_they_are_optional():
    assert load_elsewhere("websocket", "scipy", "skimage", "sklearn", "matplotlib", "soundfile", "playwright") == len(
        GOLDEN
    )


@pytest.mark.parametrize("missing", ["av", "diffusers", "einops"])  # one that is imported at the start, and others
def test_a_missing_requirement_is_named_with_the_command_that_installs_it(missing):
    error = load_elsewhere(missing)
    assert re.search(rf"lacks {missing}; install it with: .*pip install -r .*requirements\.txt", error)


def test_a_comfyui_that_is_too_old_is_told_to_update():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["comfy"]["requires-comfyui"]
    minimum = declared.removeprefix(">=")
    assert load_elsewhere(version=minimum) == len(GOLDEN)
    assert f"needs ComfyUI {minimum} or newer, and this is 0.10.0" in load_elsewhere(version="0.10.0")
