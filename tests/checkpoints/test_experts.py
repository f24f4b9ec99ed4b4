"""Expert folders as they are published: half-precision variants, shards, GPT2Model, heads, names on the Hub."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import torch
from diffusers import AudioLDM2UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_models import AUDIO_CHANNELS, LATENT, audio_unet, write_experts
from transformers import GPT2LMHeadModel, GPT2Model, T5EncoderModel

from jointdit import InputError
from jointdit.checkpoints.experts import load_audio_expert, load_video_expert, with_authors_heads
from jointdit.checkpoints.folders import load_component, resolve
from jointdit.cli import main
from jointdit.media import read_clip
from jointdit.models.experts import AudioExpert


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_experts(tmp_path_factory.mktemp("published"))


@pytest.fixture
def folder(published, tmp_path):
    """A copy of AudioLDM2's UNet folder."""
    return shutil.copytree(published[1] / "unet", tmp_path / "unet")


def load(folder, dtype=torch.float32):
    return load_component(AudioLDM2UNet2DConditionModel, folder, dtype)


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def store(folder, variant, tensors):
    save_file(tensors, folder / f"diffusion_pytorch_model.{variant}.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("variant", ["fp16", "bf16"])
def test_a_folder_with_only_a_half_precision_variant_is_read(folder, variant):
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}[variant]
    plain = folder / "diffusion_pytorch_model.safetensors"
    expected = {name: tensor.to(half) for name, tensor in load_file(plain).items()}
    store(folder, variant, expected)
    plain.unlink()
    loaded = load(folder, half).state_dict()
    assert loaded.keys() == expected.keys() and all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert load(folder).dtype == torch.float32


def test_of_several_variants_the_plain_one_is_read_then_fp16(folder):
    plain = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(plain)
    store(folder, "fp16", {name: torch.full_like(tensor, 2).half() for name, tensor in tensors.items()})
    store(folder, "bf16", {name: torch.full_like(tensor, 3).bfloat16() for name, tensor in tensors.items()})
    assert same(load(folder), audio_unet())
    plain.unlink()
    assert {tensor.unique().item() for tensor in load(folder).parameters()} == {2.0}


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_are_read_and_a_missing_one_is_named(tmp_path, variant):
    audio_unet().save_pretrained(tmp_path / "unet", max_shard_size="300KB", variant=variant)
    shards = sorted((tmp_path / "unet").glob("*.safetensors"))
    assert len(shards) > 2 and same(load(tmp_path / "unet"), audio_unet())
    shards[1].unlink()
    with pytest.raises(InputError, match=rf"unet: shard 2 of {len(shards)} is missing"):
        load(tmp_path / "unet")


def test_shards_of_text_encoders_are_read(published, tmp_path):
    whole = load_component(T5EncoderModel, published[1] / "text_encoder_2", torch.float32)
    whole.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert same(load_component(T5EncoderModel, tmp_path, torch.float32), whole)


@torch.no_grad()
def test_the_published_gpt2_is_continued_with_the_same_hidden_states(published):
    folder = published[1] / "language_model"
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["GPT2Model"]
    embeds = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    theirs = GPT2Model.from_pretrained(folder)(inputs_embeds=embeds).last_hidden_state
    ours = load_component(GPT2LMHeadModel, folder, torch.float32)
    states = ours(inputs_embeds=embeds, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(states, theirs)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("language_model", "h.0.attn.bias"),
        ("language_model", "h.0.attn.masked_bias"),
        ("text_encoder", "text_model.embeddings.position_ids"),
    ],
)
def test_constants_that_older_versions_wrote_may_be_there_or_not(published, tmp_path, part, name):
    audio = shutil.copytree(published[1], tmp_path / "audio")
    path = audio / part / "model.safetensors"
    tensors = load_file(path)
    tensors.setdefault(name, torch.zeros(1, 100, dtype=torch.long if name.endswith("ids") else torch.float32))
    save_file(tensors, path, metadata={"format": "pt"})
    before = load_audio_expert(audio)[part]
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    assert same(before, load_audio_expert(audio)[part])


@torch.no_grad()
def test_heads_of_the_authors_change_the_attention_and_not_the_weights(published, tmp_path):
    plain, other = (load_audio_expert(published[1], heads=heads)["audio_unet"] for heads in ("published", "authors"))
    assert other.config.attention_head_dim == [channels // 32 for channels in AUDIO_CHANNELS]
    assert same(plain, other)
    inputs = unet_inputs()
    assert not torch.allclose(plain(**inputs).sample, other(**inputs).sample)
    other.save_pretrained(tmp_path)
    assert torch.equal(load(tmp_path)(**inputs).sample, other(**inputs).sample)
    with pytest.raises(InputError, match="audio heads 'mine': give one of published, authors"):
        load_audio_expert(published[1], heads="mine")


def full_size(**variant):
    with torch.device("meta"):
        return AudioLDM2UNet2DConditionModel(
            in_channels=8,
            out_channels=8,
            down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
            up_block_types=("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",),
            block_out_channels=(128, 256, 384, 640),
            **variant,
        )


def test_heads_of_the_authors_at_full_size():
    unet = full_size(cross_attention_dim=((None, 768, 1024),) * 4)
    blocks = with_authors_heads(unet).down_blocks[1:]
    assert [block.attentions[0].transformer_blocks[0].attn1.heads for block in blocks] == [8, 12, 20]


@pytest.mark.parametrize(
    ("variant", "gigabytes"),
    [
        ({"cross_attention_dim": ((None, 768, 1024),) * 4}, 1.39),
        ({"cross_attention_dim": ((None, 768, None, 1024),) * 4, "transformer_layers_per_block": 2}, 2.87),
    ],
    ids=["audioldm2 and -music", "-large"],
)
def test_the_variants_have_the_size_of_their_published_files(variant, gigabytes):
    assert sum(weight.nbytes for weight in full_size(**variant).parameters()) / 1e9 == pytest.approx(
        gigabytes, abs=0.005
    )


def unet_inputs():
    generator = torch.Generator().manual_seed(0)
    return {
        "sample": torch.randn(2, LATENT, 12, 16, generator=generator),
        "timestep": torch.tensor([500, 20]),
        "encoder_hidden_states": torch.randn(2, 3, 12, generator=generator),
        "encoder_hidden_states_1": torch.randn(2, 5, 20, generator=generator),
        "encoder_attention_mask_1": torch.tensor([[1.0] * 5, [1, 1, 1, 0, 0]]),
    }


@torch.no_grad()
def test_the_large_variant_runs_in_stages_too(tmp_path):
    torch.manual_seed(0)
    large = {"cross_attention_dim": ((None, 12, None, 20),) * 3, "transformer_layers_per_block": 2}
    AudioLDM2UNet2DConditionModel.from_config(audio_unet().config, **large).save_pretrained(tmp_path)
    unet, inputs = load(tmp_path), unet_inputs()
    expert = AudioExpert(unet)
    state = expert.start(**inputs)
    for stage in range(1, expert.stages):
        state = expert.run(state, stage)
    assert torch.equal(expert.finish(state), unet(**inputs).sample)


def test_a_name_on_the_hub_is_looked_up_in_the_cache_alone(published, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="no model 'stabilityai/svd': give tiny.*with download a Hub name"):
        resolve("stabilityai/svd")
    cached = tmp_path / "models--stabilityai--svd"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(published[0], cached / "snapshots" / ("0" * 40))
    assert load_video_expert("stabilityai/svd")["video_unet"].config.num_frames == 3


def test_generate_takes_the_two_experts_also_from_a_file_beside_them(published, tmp_path):
    config = published[0].with_name("clip.toml")
    config.write_text('video-expert = "svd"\naudio-expert = "audioldm2"\naudio-heads = "authors"\nsize = "48x40"\n')
    quick = ["--frames", "4", "--fps", "8", "--steps", "1", "--quiet"]
    assert main(["generate", "-o", str(tmp_path / "clip.mp4"), "--config", str(config), *quick]) == 0
    clip = read_clip(tmp_path / "clip.mp4")
    assert clip.frames.shape == (4, 40, 48, 3) and clip.audio.shape[1] == 8000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--video-expert", "svd"], "--audio-expert is missing; --video-expert svd needs both experts"),
        (["--joint", "blocks.safetensors"], "blocks.safetensors: not a readable .safetensors file"),
        (["--audio-heads", "all"], "--audio-heads all: must be one of published, authors"),
        (
            ["--video-expert", "a", "--audio-expert", "b", "--model", "tiny"],
            "--model tiny and --video-expert: give one",
        ),
        (["--video-expert", "a", "--audio-expert", "b"], "no model 'a'"),
        (["--video-expert", "a.safetensors", "--audio-expert", "b"], "a.safetensors: there is no such file"),
    ],
)
def test_experts_that_cannot_be_taken_are_refused_with_the_option(tmp_path, capsys, options, message):
    assert main(["generate", "-o", str(tmp_path / "clip.mp4"), *options]) == 2
    assert message in capsys.readouterr().err
