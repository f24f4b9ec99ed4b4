"""Low-rank adapters in files: what they do to the experts, beside diffusers' own loader, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers.loaders.peft import PeftAdapterMixin
from safetensors.torch import save_file
from tiny_models import (
    ADAPTED,
    adapter_matrices,
    audio_unet,
    conditioning,
    inputs,
    joint_blocks,
    video_unet,
    write_experts,
)

from jointdit import JointDiTPipeline
from jointdit.checkpoints.adapter_files import fuse_adapter, save_adapters
from jointdit.checkpoints.single_file_names import unet_key
from jointdit.cli import main
from jointdit.errors import InputError
from jointdit.media import read_clip
from jointdit.models.model import JointDiTModel


def loaded_by_diffusers(unet, path, **settings):
    """By diffusers' loader, which its classes of other models inherit. path: of a file, or its tensors."""

    class Loadable(type(unet), PeftAdapterMixin):
        pass

    unet.__class__ = Loadable
    given = (path, {}) if isinstance(path, dict) else (str(path.parent), {"weight_name": path.name})
    unet.load_lora_adapter(given[0], prefix="unet", **given[1], **settings)
    return unet


def predictions(model):
    with torch.no_grad():
        found = model(*inputs(), conditioning())
    return found.video, found.audio


def test_adapters_give_the_numbers_that_diffusers_gives(tmp_path):
    torch.manual_seed(0)
    video, audio = video_unet(), audio_unet()
    save_adapters(tmp_path, {"video_unet": adapter_matrices(video), "audio_unet": adapter_matrices(audio)})
    untouched = predictions(JointDiTModel(video_unet(), audio_unet(), joint_blocks()).eval())
    fuse_adapter(video, tmp_path / "video.safetensors")
    fuse_adapter(audio, tmp_path / "audio.safetensors")
    ours = predictions(JointDiTModel(video, audio, joint_blocks()).eval())
    theirs_video = loaded_by_diffusers(video_unet(), tmp_path / "video.safetensors")
    theirs_audio = loaded_by_diffusers(audio_unet(), tmp_path / "audio.safetensors")
    theirs = predictions(JointDiTModel(theirs_video, theirs_audio, joint_blocks()).eval())
    for before, own, other in zip(untouched, ours, theirs, strict=True):
        assert (before - other).abs().max() > 1e-3
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)
    for own, other in ((video, theirs_video), (audio, theirs_audio)):
        other.fuse_lora()
        fused = {name.replace(".base_layer", ""): tensor for name, tensor in other.state_dict().items()}
        for name, tensor in own.state_dict().items():
            torch.testing.assert_close(tensor, fused[name], atol=1e-6, rtol=0)


def test_the_scale_in_the_metadata_holds_and_zeros_change_no_bit(tmp_path):
    torch.manual_seed(0)
    found = adapter_matrices(video_unet())
    save_adapters(tmp_path, {"video_unet": {name: (down, 0 * up) for name, (down, up) in found.items()}})
    video = video_unet()
    before = {name: tensor.clone() for name, tensor in video.state_dict().items()}
    fuse_adapter(video, tmp_path / "video.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in video.state_dict().items())
    name, (down, up) = next(iter(found.items()))
    settings = {"unet.r": 3, "unet.lora_alpha": 6, "unet.use_dora": False, "unet.target_modules": [name]}
    tensors = {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    save_file(tensors, tmp_path / "scaled.safetensors", {"lora_adapter_metadata": json.dumps(settings)})
    fuse_adapter(video, tmp_path / "scaled.safetensors")
    weight = video.get_submodule(name).weight
    torch.testing.assert_close(weight.detach(), before[f"{name}.weight"] + 2 * up @ down)
    other = loaded_by_diffusers(video_unet(), tmp_path / "scaled.safetensors")
    other.fuse_lora()
    torch.testing.assert_close(weight, other.get_submodule(name).weight, atol=1e-6, rtol=0)


FORMS = {
    "diffusers": ("unet.{}.lora_A.weight", "unet.{}.lora_B.weight"),
    "a UNet alone": ("{}.lora_A.weight", "{}.lora_B.weight"),
    "PEFT": ("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight"),
    "before PEFT": ("unet.{}.lora.down.weight", "unet.{}.lora.up.weight"),
    "processors": ("unet.{processor}_lora.down.weight", "unet.{processor}_lora.up.weight"),
    "kohya": ("lora_unet_{flat}.lora_down.weight", "lora_unet_{flat}.lora_up.weight"),
    "ComfyUI": ("diffusion_model.{original}.lora_down.weight", "diffusion_model.{original}.lora_up.weight"),
    "kohya on ComfyUI": ("lora_unet_{flat_original}.lora_down.weight", "lora_unet_{flat_original}.lora_up.weight"),
}
LOADED_BY_DIFFUSERS = ("diffusers", "before PEFT", "processors")


def in_form(form, matrices, unet):
    """The tensors of a file."""
    found = {}
    for name, pair in matrices.items():
        original = unet_key(unet, [*name.split("."), "weight"]).removesuffix(".weight")
        head, _, tail = name.removesuffix(".0").rpartition(".")
        spellings = {
            "processor": f"{head}.processor.{tail}",
            "flat": name.replace(".", "_"),
            "original": original,
            "flat_original": original.replace(".", "_"),
        }
        found |= {key.format(name, **spellings): part for key, part in zip(FORMS[form], pair, strict=True)}
    return found


def saved(matrices, folder):
    save_adapters(folder, {"video_unet": matrices})
    return folder / "video.safetensors"


@pytest.mark.parametrize("form", FORMS)
def test_a_lora_of_the_video_expert_is_diffusers_own_bit_for_bit(tmp_path, form):
    torch.manual_seed(0)
    path, video, unet = tmp_path / "lora.safetensors", video_unet(), video_unet()
    matrices = adapter_matrices(unet)
    tensors = in_form(form, matrices, unet)
    save_file(tensors, path)
    theirs = loaded_by_diffusers(video_unet(), path if form in LOADED_BY_DIFFUSERS else saved(matrices, tmp_path))
    theirs.fuse_lora(lora_scale=0.7)
    fused = {name.replace(".base_layer", ""): tensor for name, tensor in theirs.state_dict().items()}
    fuse_adapter(video, path, 0.7)
    ours = video.state_dict()
    assert all(torch.equal(ours[name], fused[name]) for name in ours)
    before = unet.state_dict()
    assert sum(not torch.equal(ours[name], before[name]) for name in ours) == len(tensors) / 2


def test_each_layers_alpha_and_convolutions_count_as_diffusers_count_them(tmp_path):
    torch.manual_seed(0)
    path, unet = tmp_path / "lora.safetensors", video_unet()
    spatial = "up_blocks.1.resnets.0.spatial_res_block.conv1"
    attention = "mid_block.attentions.0.temporal_transformer_blocks.0.attn1.to_q"
    out, into = unet.get_submodule(spatial).weight.shape[:2]
    width = unet.get_submodule(attention).weight.shape[0]
    parts = {
        spatial: (0.1 * torch.randn(4, into, 3, 3), torch.randn(out, 4, 1, 1), torch.tensor(1.0)),
        attention: (0.1 * torch.randn(2, width), torch.randn(width, 2), torch.tensor([6.0])),
    }
    tensors = {}
    for name, (down, up, alpha) in parts.items():
        flat = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up, f"{flat}.alpha": alpha}
    save_file(tensors, path)
    fuse_adapter(unet, path)
    given = {}
    for name, (down, up, _) in parts.items():
        given |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    alphas = {f"unet.{name}.alpha": alpha.item() for name, (_, _, alpha) in parts.items()}
    theirs = loaded_by_diffusers(video_unet(), given, network_alphas=alphas)
    theirs.fuse_lora()
    assert torch.equal(unet.get_submodule(attention).weight, theirs.get_submodule(attention).weight)
    ours, others = (each.get_submodule(spatial).weight for each in (unet, theirs))
    torch.testing.assert_close(ours, others, atol=1e-6, rtol=0)
    assert (ours - video_unet().get_submodule(spatial).weight).abs().max() > 0.01


LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("tensors", "settings", "message"),
    [
        ({}, {}, "no adapter in it"),
        (
            {f"{LAYER}.hada_w1_a": (2, 2)},
            {},
            "not a low-rank adapter .LoRA. .*has no .*hada_w1_a",
        ),
        ({f"{LAYER}.alpha": (1,)}, {}, "lora_A.weight' is missing"),
        ({f"{LAYER}.lora_A.weight": (2, 32)}, {}, "lora_B.weight' is missing"),
        ({"elsewhere.lora_A.weight": (2, 32), "elsewhere.lora_B.weight": (32, 2)}, {}, "a layer 'elsewhere'"),
        ({f"{LAYER}.lora_A.weight": (2, 48), f"{LAYER}.lora_B.weight": (32, 2)}, {}, r"A \[2, 48\].*weight \[32, 32\]"),
        ({f"{LAYER}.lora_A.weight": (2, 32), f"{LAYER}.lora_B.weight": (32, 3)}, {}, "made for another model"),
        ({f"{LAYER}.lora_A.weight": (2, 32)}, {"use_dora": True}, "an adapter with use_dora"),
    ],
)
def test_an_adapter_that_does_not_fit_is_one_clear_error(tmp_path, tensors, settings, message):
    path, video = tmp_path / "video.safetensors", video_unet()
    before = {name: tensor.clone() for name, tensor in video.state_dict().items()}
    metadata = {"lora_adapter_metadata": json.dumps(settings)}
    save_file({f"unet.{name}": torch.ones(shape) for name, shape in tensors.items()}, path, metadata)
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        fuse_adapter(video, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in video.state_dict().items())


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_an_adapter_that_is_no_number_is_named_with_its_tensor(tmp_path, number):
    path, video = tmp_path / "video.safetensors", video_unet()
    up = torch.ones(32, 2)
    up[3, 1] = number
    tensors = {f"unet.{LAYER}.lora_A.weight": torch.ones(2, 32), f"unet.{LAYER}.lora_B.weight": up}
    save_file(tensors, path)
    with pytest.raises(
        InputError, match=f"{path}: unet.{LAYER}.lora_B.weight has numbers that are NaN or infinite"
    ) as caught:
        fuse_adapter(video, path)
    assert "\n" not in str(caught.value) and all(tensor.isfinite().all() for tensor in video.state_dict().values())


@pytest.mark.parametrize("settings", ['{"r": 0}', '{"r": "x"}', "[1]", '{"lora_alpha": null}', "[" * 5000, "NaN", "{"])
def test_settings_of_an_adapter_that_cannot_be_are_one_clear_error(tmp_path, settings):
    path = tmp_path / "video.safetensors"
    tensors = {f"unet.{LAYER}.lora_A.weight": torch.ones(2, 32), f"unet.{LAYER}.lora_B.weight": torch.ones(32, 2)}
    save_file(tensors, path, {"lora_adapter_metadata": settings})
    with pytest.raises(InputError, match=f"{path}: ") as caught:
        fuse_adapter(video_unet(), path)
    assert "\n" not in str(caught.value)


def test_a_folder_of_adapters_loads_on_every_surface(tmp_path, capsys):
    torch.manual_seed(0)
    adapters = tmp_path / "adapters"
    plain = JointDiTPipeline.from_pretrained("tiny")
    save_adapters(adapters, {"audio_unet": adapter_matrices(plain.audio_unet)})
    pipe = JointDiTPipeline.from_pretrained("tiny", adapters=adapters)
    for component in ("video_unet", "audio_unet"):
        before = getattr(plain, component).state_dict()
        changed = {
            name
            for name, tensor in getattr(pipe, component).state_dict().items()
            if not torch.equal(tensor, before[name])
        }
        assert bool(changed) == (component == "audio_unet") and all(
            name[: -len(".weight")].endswith(ADAPTED) for name in changed
        )
    small = ["--frames", "6", "--size", "32x32", "--fps", "12.5", "--steps", "1", "--seed", "1", "--quiet"]
    for name, more in (("plain", []), ("adapted", ["--adapters", str(adapters)])):
        assert main(["generate", "-o", str(tmp_path / f"{name}.mp4"), *small, *more]) == 0
    assert (tmp_path / "plain.mp4").read_bytes() != (tmp_path / "adapted.mp4").read_bytes()
    assert main(["generate", "-o", str(tmp_path / "none.mp4"), "--adapters", str(tmp_path)]) == 2
    assert "no adapters there" in capsys.readouterr().err
    video, audio = write_experts(tmp_path)
    with pytest.raises(InputError, match="audio.safetensors: made for another model"):
        JointDiTPipeline.from_experts(video, audio, adapters=adapters)


def test_a_lora_of_the_video_expert_loads_on_the_command_line(tmp_path, capsys):
    torch.manual_seed(0)
    plain, lora = JointDiTPipeline.from_pretrained("tiny"), tmp_path / "video.safetensors"
    save_adapters(tmp_path, {"video_unet": adapter_matrices(plain.video_unet)})
    base = ["generate", "--frames", "6", "--size", "32x32", "--fps", "12.5", "--steps", "1", "--seed", "1", "--quiet"]
    made = []
    for more in ([], ["--lora-strength", "0"], ["--lora-strength", "0.5"], None):
        options = [] if more is None else ["--video-lora", str(lora), *more]
        assert main([*base, "-o", str(tmp_path / "clip.mp4"), *options]) == 0
        made.append(read_clip(tmp_path / "clip.mp4").frames)
    whole, nothing, half, without = made
    assert np.array_equal(nothing, without)
    assert len({frames.tobytes() for frames in (whole, half, without)}) == 3
    capsys.readouterr()
    for options, refusal in (
        (["--lora-strength", "1"], "--lora-strength 1: goes with --video-lora only; leave it out"),
        (["--video-lora", str(lora), "--lora-strength", "11"], "--lora-strength 11"),
        (["--video-lora", str(tmp_path / "gone.safetensors")], "gone.safetensors"),
        (["--video-lora", str(lora), "-o", str(lora)], "video.safetensors"),
    ):
        assert main([*base, "-o", str(tmp_path / "clip.mp4"), *options]) == 2
        error = capsys.readouterr().err
        assert refusal in error and error.count("\n") == 1
