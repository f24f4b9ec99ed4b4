"""Stable Video Diffusion from one file: against the original code's networks, and against diffusers end to end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from comfyui_process import COMFYUI, MISSING, PYTHON
from diffusers import AudioLDM2Pipeline, StableVideoDiffusionPipeline
from original_svd import SMALL_CONFIGS, file_tensors, networks, write_single_file
from PIL import Image
from safetensors.torch import save_file
from tiny_models import write_experts

from jointdit import InputError, JointCFG, JointDiTPipeline
from jointdit.checkpoints.single_file import CONFIGS, empty_components, frames_of, load_single_file
from jointdit.checkpoints.single_file_names import component_sources
from jointdit.media import read_clip

FULL_CONFIGS = dict(CONFIGS)
FRAMES, FPS, HEIGHT, WIDTH, STEPS = 4, 8, 40, 48, 2


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model as one file, and the original networks in it."""
    path = tmp_path_factory.mktemp("checkpoints") / "svd.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        for name, config in SMALL_CONFIGS.items():
            patch.setitem(CONFIGS, name, config)
        yield path, write_single_file(path)


@pytest.fixture(scope="module")
def loaded(small):
    return load_single_file(small[0])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_the_reference_is_what_comfyui_runs():
    script = Path(__file__).parents[1] / "support" / "comfyui_svd.py"
    done = subprocess.run([PYTHON, str(script), str(COMFYUI)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert max(json.loads(done.stdout.splitlines()[-1]).values()) < 5e-6


@torch.no_grad()
def test_unet_predicts_what_the_original_predicts(small, loaded):
    original, ids = small[1].unet, torch.tensor([[6.0, 127.0, 0.02], [7.0, 30.0, 0.5]])
    sample, levels, context = noise(2, 3, 8, 8, 12), torch.tensor([0.3, -1.2]), noise(2, 1, 24, seed=1)
    theirs = original(sample, levels, context, ids)
    rows = [slice(0, 1), slice(1, 2)]  # diffusers' own forward takes one level for all samples
    ours = [loaded["video_unet"](sample[row], levels[row], context[row], ids[row]).sample for row in rows]
    assert relative(torch.cat(ours), theirs) < 5e-6, "without the original's epsilon it is 8e-5"


@torch.no_grad()
def test_autoencoder_encodes_with_the_pictures_and_decodes_with_the_videos(small, loaded):
    vae, original = loaded["video_vae"], small[1]
    pixels, latents = noise(2, 3, 16, 24), noise(3, 4, 4, 6)
    moments = original.picture.quant_conv(original.picture.encoder(pixels))
    assert relative(vae.encode(pixels).latent_dist.parameters, moments) < 5e-6
    assert relative(vae.decode(latents, num_frames=3).sample, original.first_stage.decoder(latents, 3)) < 5e-6


@torch.no_grad()
def test_clip_sees_what_openclip_sees(small, loaded):
    pixels = noise(2, 3, 224, 224)
    assert relative(loaded["image_encoder"](pixels).image_embeds, small[1].vision(pixels)) < 5e-6


@torch.no_grad()
def test_an_encoder_without_quant_conv_is_used_as_it_is(small, tmp_path):
    tensors = {name: each for name, each in file_tensors(small[1]).items() if "embedders.3" not in name}
    save_file(tensors, tmp_path / "svd_pruned.safetensors")
    vae, pixels = load_single_file(tmp_path / "svd_pruned.safetensors")["video_vae"], noise(2, 3, 16, 24)
    assert relative(vae.encode(pixels).latent_dist.parameters, small[1].first_stage.encoder(pixels)) < 5e-6


def test_every_published_name_and_shape_is_found_at_full_size(monkeypatch):
    for name, config in FULL_CONFIGS.items():
        monkeypatch.setitem(CONFIGS, name, config)
    with torch.device("meta"):
        original = networks(small=False)
    published = {key: tuple(tensor.shape) for key, tensor in file_tensors(original).items()}
    sources = {
        name: {each.key: each.shape for each in component_sources(model, published).values()}
        for name, model in empty_components(25).items()
    }
    assert [len(each) for each in sources.values()] == [1428, 374, 392]
    found = {key: shape for each in sources.values() for key, shape in each.items()}
    assert found.items() <= published.items()
    unread = {key.split("visual.")[0].rsplit(".", 1)[0] for key in published.keys() - found.keys()}
    assert all(name.startswith(("conditioner.embedders.", "first_stage_model.encoder")) for name in unread)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_files_in_half_precision_are_read_and_written_in_any(small, tmp_path, half):
    save_file({key: each.to(half) for key, each in file_tensors(small[1]).items()}, tmp_path / "svd.safetensors")
    components = load_single_file(tmp_path / "svd.safetensors", half)
    models = [components[name] for name in SMALL_CONFIGS]
    assert {tensor.dtype for model in models for tensor in model.parameters()} == {half}
    assert not any(tensor.is_meta for model in models for tensor in (*model.parameters(), *model.buffers()))


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("model.diffusion_model.input_blocks.1.0.time_mixer.mix_factor", None, "lacks {key};"),
        ("conditioner.embedders.3.encoder.quant_conv.bias", None, "lacks {key};"),
        ("first_stage_model.decoder.up.1.block.0.time_stack.in_layers.0.bias", None, "lacks {key};"),
        ("model.diffusion_model.stray", (3,), "has {key}, which"),
        ("conditioner.embedders.3.encoder.encoder.stray", (3,), "has {key}, which"),
        ("lora.up", (3,), "has {key}, which"),
        ("conditioner.embedders.0.open_clip.model.visual.proj", (16, 20), r"{key} has shape \[16, 20\].*\[16, 24\]"),
    ],
)
def test_a_wrong_tensor_is_named_with_the_file(small, tmp_path, key, change, message):
    tensors = file_tensors(small[1])
    tensors.pop(key, None)
    if change:
        tensors[key] = torch.zeros(change)
    save_file(tensors, tmp_path / "svd.safetensors")
    with pytest.raises(InputError, match=r"/svd\.safetensors: " + message.format(key=key)) as caught:
        load_single_file(tmp_path / "svd.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), 1e9])
@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.input_blocks.1.0.time_mixer.mix_factor",
        "conditioner.embedders.0.open_clip.model.visual.proj",
        "first_stage_model.decoder.up.1.block.0.time_stack.in_layers.0.bias",
    ],
)
def test_a_tensor_that_is_no_number_is_named_with_the_file(small, tmp_path, key, number):
    """1e9 is infinite in half precision."""
    tensors = file_tensors(small[1])
    tensors[key] = tensors[key].clone()
    tensors[key].view(-1)[0] = number
    save_file(tensors, tmp_path / "svd.safetensors")
    with pytest.raises(InputError, match=rf"/svd\.safetensors: {key} has numbers that are NaN or infinite in float16"):
        load_single_file(tmp_path / "svd.safetensors", torch.float16)


@pytest.mark.parametrize(
    ("component", "module", "name"),
    [
        ("video_unet", "", "scale"),
        ("video_unet", "down_blocks.0", "adapters.0.weight"),
        ("image_encoder", "", "logit_scale"),
        ("image_encoder", "vision_model.embeddings", "register_tokens"),
    ],
)
def test_a_tensor_whose_original_name_is_unknown_is_refused(small, component, module, name):
    model = empty_components(14)[component]
    place, _, last = name.rpartition(".")
    parent = model.get_submodule(module)
    for part in place.split(".") if place else ():
        parent.add_module(part, torch.nn.Module())
        parent = parent.get_submodule(part)
    parent.register_parameter(last, torch.nn.Parameter(torch.zeros(1)))
    full = f"{module}.{name}".removeprefix(".")
    with pytest.raises(InputError, match=f"{component} has {full}, .*diffusers' layout"):
        component_sources(model, {})


def test_files_that_are_not_there_or_damaged_are_named(small, tmp_path):
    with pytest.raises(InputError, match=r"svd\.safetensors: there is no such file"):
        load_single_file(tmp_path / "svd.safetensors")
    (tmp_path / "svd.safetensors").write_bytes(small[0].read_bytes()[:5000])
    with pytest.raises(InputError, match=r"svd\.safetensors: not a readable"):
        load_single_file(tmp_path / "svd.safetensors")


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("svd", 14),
        ("svd_xt", 25),
        ("svd_xt_1_1", 25),
        ("SVD-XT-fp16", 25),
        ("img2vid", 14),
        ("svd-next", 14),
        ("svdxt11", 25),
        ("svd14", 14),
    ],
)
def test_the_name_tells_for_how_many_frames_a_file_is(tmp_path, name, frames):
    assert frames_of(tmp_path / f"{name}.safetensors") == frames


def test_where_the_name_does_not_tell_it_is_asked(small, tmp_path):
    other = tmp_path / "mine.safetensors"
    other.write_bytes(small[0].read_bytes())
    with pytest.raises(InputError, match=r"mine\.safetensors: neither.*14 or 25"):
        load_single_file(other)
    assert load_single_file(other, frames=25)["video_unet"].config.num_frames == 25


@pytest.fixture(scope="module")
def pipe(small, tmp_path_factory):
    _, audio = write_experts(tmp_path_factory.mktemp("experts"))
    return JointDiTPipeline.from_experts(small[0], audio)


def test_untrained_it_is_stable_video_diffusions_video_with_audioldm2s_sound(pipe, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    guidance = JointCFG(mode="cfg", video_scale_start=1.0, video_scale=3.0, audio_scale=3.5)
    generator = torch.Generator().manual_seed(5)
    size = {"height": HEIGHT, "width": WIDTH}
    clip = pipe(picture, "a ball", frames=FRAMES, fps=FPS, steps=STEPS, guidance=guidance, generator=generator, **size)

    generator.manual_seed(5)
    names = ("video_vae", "image_encoder", "video_unet", "video_scheduler", "feature_extractor")
    svd = StableVideoDiffusionPipeline(*(getattr(pipe, name) for name in names))
    svd.set_progress_bar_config(disable=True)
    (frames,) = svd(
        Image.fromarray(picture),
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        fps=FPS,
        decode_chunk_size=8,
        generator=generator,
        output_type="np",
        **size,
    ).frames
    difference = np.abs(clip.frames - frames * 255.0)
    assert frames.std() > 0.02 and difference.max() < 1.01 and difference.mean() < 0.3

    names = ("text_encoder", "text_encoder_2", "projection_model", "language_model", "tokenizer", "tokenizer_2")
    audioldm2 = AudioLDM2Pipeline(
        vae=pipe.audio_vae,
        unet=pipe.audio_unet,
        scheduler=pipe.audio_scheduler,
        vocoder=pipe.vocoder,
        feature_extractor=None,
        **{name: getattr(pipe, name) for name in names},
    )
    audioldm2.set_progress_bar_config(disable=True)
    # The video's noise was drawn before, so the generator stands where the sound's noise begins.
    (sound,) = audioldm2(
        "a ball", audio_length_in_s=FRAMES / FPS, num_inference_steps=STEPS, guidance_scale=3.5, generator=generator
    ).audios
    inner = slice(64, -64)  # ours fades in and out over 4 ms
    ours = clip.audio[0]
    assert ours.shape == sound.shape == (FRAMES * 16000 // FPS,) and np.abs(sound[inner]).max() < 0.97
    assert np.linalg.norm(ours[inner] - sound[inner]) < 1e-4 * np.linalg.norm(sound[inner])

    clip.save(tmp_path / "clip.mp4")
    saved = read_clip(tmp_path / "clip.mp4")
    assert len(saved.frames) == FRAMES and saved.fps == FPS and saved.audio.shape[1] == ours.shape[0]


def test_a_saved_model_keeps_the_weights_and_the_original_epsilon(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    again = JointDiTPipeline.from_pretrained(tmp_path / "model")
    for name in ("video_unet", "video_vae", "image_encoder"):
        first, second = getattr(pipe, name), getattr(again, name)
        for key, tensor in first.state_dict().items():
            assert torch.equal(tensor, second.state_dict()[key]), key
        epsilons = [
            [each.eps for each in model.modules() if isinstance(each, torch.nn.GroupNorm)] for model in (first, second)
        ]
        assert epsilons[0] == epsilons[1]
