"""Settings in model folders: what no library may see of them, because it would fetch, hang or fail without a name."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import joint_blocks, write_experts

from jointdit import InputError, JointDiTPipeline
from jointdit.checkpoints.components import COMPONENTS
from jointdit.checkpoints.folders import BUNDLED, load_component
from jointdit.checkpoints.joint_files import load_joint_blocks, save_joint_blocks

SETTINGS = {
    name: next((BUNDLED["tiny"] / name).glob("*config.json")).name
    for name in COMPONENTS
    if (BUNDLED["tiny"] / name).exists()
}
DEEP = "[" * 100_000
NO_OBJECTS = ('"some/model"', "3", '["some/model"]', "null", DEEP, '{"a": NaN}', "{", "")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A copy of the bundled model, whose settings tests change and put back."""
    return Path(shutil.copytree(BUNDLED["tiny"], tmp_path_factory.mktemp("model") / "model"))


@pytest.fixture
def change(models):
    """Changes a JSON file of the model, or replaces it by a text, until the end of the test."""
    kept = {}

    def write(file: str, text: str | None = None, **values) -> Path:
        path = models / file
        kept.setdefault(path, path.read_text())
        path.write_text(json.dumps(json.loads(kept[path]) | values) if text is None else text)
        return path

    yield write
    for path, text in kept.items():
        path.write_text(text)


def refused(name: str, models: Path) -> str:
    """Loads one component, which must be refused in a second with one line; returns the line."""
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        load_component(COMPONENTS[name].load_class(COMPONENTS[name].names[0]), models / name, torch.float32)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    assert time.monotonic() - start < 5
    return str(error.value)


def test_models_on_disk_are_loaded_without_a_network(offline, tmp_path):
    JointDiTPipeline.from_pretrained("tiny")
    video, audio = write_experts(tmp_path)
    pipe = JointDiTPipeline.from_experts(video, audio)
    pipe.save_pretrained(tmp_path / "saved")
    pipe.save_joint_blocks(tmp_path / "joint.safetensors")
    JointDiTPipeline.from_pretrained(tmp_path / "saved", joint=tmp_path / "joint.safetensors")
    assert offline == []


KERNELS = """
def get_kernel(*arguments, **options):
    from huggingface_hub import snapshot_download
    return snapshot_download("kernels-community/some")
"""
IMPORTS = """
import socket
tried = []
def refuse(*arguments, **options):
    tried.append(arguments)
    raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
import jointdit.pipeline
from kernels import get_kernel
assert not tried, tried
try:
    get_kernel()
except Exception:
    pass
assert tried, "it would have been noticed, and who asks may ask"
"""


def test_libraries_that_fetch_while_they_are_imported_do_not(tmp_path):
    """bitsandbytes fetches a kernel on some processors, where the package kernels is there too."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text(KERNELS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", IMPORTS], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("text", NO_OBJECTS, ids=lambda text: text[:12])
def test_settings_that_are_no_object_are_refused_and_never_looked_for_elsewhere(name, text, models, change, offline):
    path = change(f"{name}/{SETTINGS[name]}", text)
    assert refused(name, models).startswith(f"{path}: ")
    assert offline == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("text_encoder", {"_attn_implementation": "kernels-community/flash-attn2"}),
        ("text_encoder", {"attn_implementation": "kernels-community/flash-attn2"}),
        ("text_encoder", {"text_config": {"attn_implementation": "kernels-community/flash-attn2"}}),
        ("text_encoder", {"auto_map": {"AutoModel": "some/model--code.Class"}}),
        ("video_unet", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_settings_that_bring_in_code_or_weights_from_elsewhere_are_refused(name, values, models, change, offline):
    path = change(f"{name}/config.json", **values)
    line = refused(name, models)
    assert line.startswith(f"{path}: ") and "from elsewhere" in line and offline == []


def test_an_adapter_that_names_another_model_is_refused(models, offline):
    path = models / "text_encoder" / "adapter_config.json"
    path.write_text('{"base_model_name_or_path": "some/model"}')
    try:
        assert str(path) in refused("text_encoder", models) and offline == []
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("video_scheduler", {"num_train_timesteps": 10**9}, "num_train_timesteps is 1000000000"),
        ("audio_scheduler", {"beta_end": "much"}, "beta_end is 'much', but must be a number from 0 to 1"),
        ("video_vae", {"scaling_factor": 0}, "scaling_factor is 0"),
        ("video_vae", {"latent_channels": 10**9}, "latent_channels is 1000000000"),
        ("vocoder", {"upsample_rates": [10**9]}, "upsample_rates[0] is 1000000000"),
        ("vocoder", {"sampling_rate": 0}, "sampling_rate is 0"),
        ("video_unet", {"num_frames": None}, "num_frames is None"),
        ("video_unet", {"layers_per_block": 10**6}, "far more layers than the 495 tensors"),
        ("text_encoder", {"num_hidden_layers": 10**6}, "far more layers"),
        ("image_encoder", {"image_size": 10**9}, "image_size is 1000000000"),
        ("joint_blocks", {"image_dim": 10**9}, "image_dim is 1000000000"),
        (
            "joint_blocks",
            {"stages": [*range(90)], "video_channels": [64] * 90, "audio_channels": [64] * 90, "video_pools": [1] * 90},
            "far more layers",
        ),
        ("joint_blocks", {"stages": list(range(90))}, "90 stages, 3 video_channels, 3 audio_channels, 3 video_pools"),
        ("joint_blocks", {"colour": 1}, "unknown key 'colour'"),
        ("feature_extractor", {"image_std": [0, 1, 1]}, "image_std[0] is 0"),
    ],
    ids=str,
)
def test_sizes_are_bounded_before_anything_is_made_of_them(name, values, told, models, change):
    change(f"{name}/{SETTINGS[name]}", **values)
    line = refused(name, models)
    assert told in line and str(models / name) in line


@pytest.mark.parametrize(
    ("defaults", "told"),
    [
        ({"audio_start": 1e99}, "audio_start 1e+99"),
        ({"steps": 10**9}, "steps is 1000000000, but must be a whole number from 1 to 999"),
        ({"frames": 0}, "frames is 0"),
        ({"height": 1e9}, "height is 1000000000.0"),
        ({"fps": "0"}, "fps is 0"),
        ({"sigmas": ["many"]}, "sigmas[0] is 'many'"),
        ({"guidance": {"mode": 3}}, "guidance.mode is 3"),
        ({"guidance": {"colour": 3}}, "guidance.colour"),
        ({"colour": 3}, "unknown key 'colour'"),
        ("some", "it is 'some', but must be an object"),
    ],
    ids=str,
)
def test_defaults_of_a_model_are_checked(defaults, told, models, change):
    own = json.loads((models / "model_index.json").read_text())["defaults"]
    change("model_index.json", defaults=own | defaults if isinstance(defaults, dict) else defaults)
    with pytest.raises(InputError) as error:
        JointDiTPipeline.from_pretrained(models)
    assert told in str(error.value) and "model_index.json" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"some/model"',
        "{}",
        DEEP,
        '{"_class_name": ["JointDiTPipeline"]}',
        '{"_class_name": "JointDiTPipeline", "vocoder": ["transformers", ["SpeechT5HifiGan"]]}',
        '{"_class_name": "JointDiTPipeline", "tokenizer": {"a": 1}}',
    ],
    ids=lambda text: text[:40],
)
def test_an_index_of_another_shape_is_refused(text, models, change, offline):
    path = change("model_index.json", text)
    with pytest.raises(InputError, match=str(path)):
        JointDiTPipeline.from_pretrained(models)
    assert offline == []


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"image_dim": 10**9}, "image_dim is 1000000000"),
        ({"image_dim": 99_999, "text_dim": 99_999, "width": 64_000}, "the file has"),
        ({"stages": [0.5]}, "stages[0] is 0.5"),
        ({"stages": "0123"}, "stages is '0123', but must be a list"),
        ({"video_pools": [0, 1, 1, 1]}, "video_pools[0] is 0"),
        ({"audio_latents_per_second": math.nan}, "NaN is not a number"),
        ({"audio_latents_per_second": 1e99}, "audio_latents_per_second is 1e+99"),
        ({"audio_dims": [12] * 99_999}, "audio_dims"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"width": True}, "width is True"),
        ([1], "it is [1], but must be an object"),
        (DEEP, "nested too deeply"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_of_a_joint_block_file_are_compared_before_anything_is_made(config, told, tmp_path):
    path, blocks = tmp_path / "joint.safetensors", joint_blocks()
    save_joint_blocks(blocks, path)
    own = {name: value for name, value in blocks.config.items() if not name.startswith("_")}
    text = config if isinstance(config, str) else json.dumps({**own, **config} if isinstance(config, dict) else config)
    save_file(load_file(path), path, metadata={"class": "JointBlocks", "config": text})
    start = time.monotonic()
    with pytest.raises(InputError, match="joint.safetensors: its own config: ") as error:
        load_joint_blocks(path)
    assert told in str(error.value) and time.monotonic() - start < 2


@pytest.mark.parametrize("change", [{"version": 1}, {"normalizer": {"type": "x"}}, {"decoder": {"type": 7}}])
def test_a_tokenizer_that_its_library_cannot_read_is_named(change, tmp_path):
    """tokenizers raises a bare Exception."""
    folder = Path(shutil.copytree(BUNDLED["tiny"] / "tokenizer", tmp_path / "tokenizer"))
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(content | change))
    assert f"{folder}: cannot be loaded" in refused("tokenizer", tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_named_where_they_are_loaded(value, models, tmp_path):
    folder = Path(shutil.copytree(models / "vocoder", tmp_path / "vocoder"))
    tensors = load_file(folder / "model.safetensors")
    tensors["conv_pre.weight"].view(-1)[3] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert f"{folder}: conv_pre.weight has numbers that are NaN or infinite" in refused("vocoder", tmp_path)
    path, blocks = tmp_path / "joint.safetensors", joint_blocks()
    with torch.no_grad():
        blocks.blocks[0].video.proj_in.weight[0, 0] = value
    save_joint_blocks(blocks, path)
    with pytest.raises(InputError, match="joint.safetensors: blocks.0.video.proj_in.weight has numbers that are NaN"):
        load_joint_blocks(path)
