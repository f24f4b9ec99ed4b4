"""Features of small networks of the real classes, against what transformers itself makes of the same inputs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_extractors import SIDE, write_all

from jointdit.errors import InputError
from jointdit.evaluate import extractors
from jointdit.evaluate.extractors import find_extractors, load_extractor
from jointdit.media import Clip

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def clip():
    """Frames of the networks' own size, so that no scaling comes between."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (16, SIDE, SIDE, 3)).astype(np.uint8)
    return Clip(frames, 10, rng.normal(0, 0.1, (1, 25_600)).astype(np.float32), 16_000)


def pixels(frames: np.ndarray) -> torch.Tensor:
    mean, deviation = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4])
    return torch.tensor((frames / 255 - mean) / deviation, dtype=torch.float32).permute(0, 3, 1, 2)


@torch.no_grad()
def test_features_are_those_of_transformers(folder, clip):
    found = {each.name: each for each in find_extractors(folder, CPU)}
    assert sorted(found) == ["ast", "clap", "clip", "videomae", "wav2vec2"]
    features = {name: each.of_clip(clip) for name, each in found.items()}

    video = transformers.VideoMAEForVideoClassification.from_pretrained(folder / "videomae").eval()
    shown = pixels(clip.frames[[0, 5, 10, 15]])[None]
    assert features["videomae"].classes == pytest.approx(video(shown).logits[0].numpy(), abs=1e-5)

    pairs = transformers.CLIPModel.from_pretrained(folder / "clip").eval()
    tokens = transformers.CLIPTokenizer.from_pretrained(folder / "clip")(["a dog"], return_tensors="pt")
    out = pairs(**tokens, pixel_values=pixels(clip.frames))
    frames, text = features["clip"].frames, found["clip"].of_text("a dog")
    assert frames / np.linalg.norm(frames, axis=1)[:, None] == pytest.approx(out.image_embeds.numpy(), abs=1e-5)
    assert text / np.linalg.norm(text) == pytest.approx(out.text_embeds[0].numpy(), abs=1e-5)

    heard = transformers.ASTForAudioClassification.from_pretrained(folder / "ast").eval()
    inputs = transformers.ASTFeatureExtractor.from_pretrained(folder / "ast")(
        clip.audio[0], sampling_rate=16_000, return_tensors="pt"
    )
    assert features["ast"].classes == pytest.approx(heard(**inputs).logits[0].numpy(), abs=1e-5)

    speech = transformers.Wav2Vec2Model.from_pretrained(folder / "wav2vec2").eval()
    inputs = transformers.Wav2Vec2FeatureExtractor()(clip.audio[0], sampling_rate=16_000, return_tensors="pt")
    expected = speech(**inputs).last_hidden_state[0].mean(0).numpy()
    assert features["wav2vec2"].sound == pytest.approx(expected, abs=1e-5)


def test_sounds_and_texts_of_clap_share_a_space_and_do_not_change(folder, clip):
    clap = load_extractor(folder / "clap", CPU)
    with torch.no_grad():
        sound, again, text = clap.of_clip(clip).sound, clap.of_clip(clip).sound, clap.of_text("a dog barks")
    assert sound is not None and sound.shape == text.shape and np.array_equal(sound, again)


def test_pictures_of_another_shape_are_scaled_and_cut_at_their_centre(folder):
    middle = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    wide = np.pad(middle, ((0, 0), (20, 20), (0, 0)))
    clips = [Clip(np.stack([each] * 4), 10, np.zeros((1, 6400), np.float32), 16_000) for each in (middle, wide)]
    network = load_extractor(folder / "clip", CPU)
    with torch.no_grad():
        one, two = (network.of_clip(each).frames for each in clips)
    assert one == pytest.approx(two)
    assert Image.fromarray(wide).size == (SIDE + 40, SIDE)


def test_pictures_are_prepared_as_the_networks_own_processor_does():
    clip = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")  # of transformers 5
    frames = np.random.default_rng(2).integers(0, 256, (2, 45, 77, 3)).astype(np.uint8)
    for size, shown in (({"shortest_edge": 36}, frames), ({"shortest_edge": 36}, frames.transpose(0, 2, 1, 3))):
        own = clip.CLIPImageProcessorPil(size=size, crop_size={"height": SIDE, "width": SIDE})
        expected = own(list(shown), return_tensors="np").pixel_values
        prepare = extractors._pictures(json.loads(own.to_json_string()), CPU)
        assert prepare(shown).numpy() == pytest.approx(np.stack(expected), abs=1e-5)


def change_weights(folder, name, change):
    """Copies a network, with its tensors changed in place by `change`."""
    copy = folder.parent / f"changed {change.__name__}" / name
    shutil.copytree(folder / name, copy, dirs_exist_ok=True)
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    return copy


@pytest.mark.parametrize("name", ["clap", "clip", "wav2vec2"])
def test_indices_and_what_training_alone_uses_may_lack_or_be_too_much(name, folder, clip):
    """As files of other versions of transformers have it, those of `facebook/wav2vec2-base-960h` among them."""

    def older(tensors):
        for key in [key for key in tensors if key.endswith(("_ids", "relative_position_index", "spec_embed"))]:
            del tensors[key]
        if name == "clip":
            tensors["text_model.embeddings.position_ids"] = torch.arange(16)[None]

    before, after = (load_extractor(each, CPU) for each in (folder / name, change_weights(folder, name, older)))
    assert before.weights != after.weights
    with torch.no_grad():
        one, two = before.of_clip(clip), after.of_clip(clip)
        if before.of_text:
            assert np.array_equal(before.of_text("a dog"), after.of_text("a dog"))
    assert np.array_equal(one.sound, two.sound) if one.frames is None else np.array_equal(one.frames, two.frames)


def test_weights_in_half_precision_are_computed_with_in_full(folder, clip):
    def half(tensors):
        tensors |= {name: each.half() if each.is_floating_point() else each for name, each in tensors.items()}

    with torch.no_grad():
        found = [
            load_extractor(each, CPU).of_clip(clip).frames
            for each in (folder / "clip", change_weights(folder, "clip", half))
        ]
    assert found[0] == pytest.approx(found[1], abs=0.02) and not np.array_equal(*found)


def test_a_network_in_the_cache_of_the_hub_is_called_as_it_is_published(folder, tmp_path):
    snapshot = tmp_path / "models--openai--clip-vit-base-patch32" / "snapshots" / ("0" * 40)
    shutil.copytree(folder / "clip", snapshot)
    assert load_extractor(snapshot, CPU).name == "clip-vit-base-patch32"


def test_the_checksum_names_the_weights(folder, tmp_path):
    shutil.copytree(folder / "clip", tmp_path / "clip")
    same = load_extractor(tmp_path / "clip", CPU).weights
    path = tmp_path / "clip" / "model.safetensors"
    tensors = load_file(path)
    tensors["logit_scale"] += 1
    save_file(tensors, path, {"format": "pt"})
    assert load_extractor(folder / "clip", CPU).weights == same != load_extractor(tmp_path / "clip", CPU).weights


@pytest.mark.parametrize("broken", ["a weight is missing", "pickled weights", "an unknown kind", "nothing there"])
def test_a_network_that_is_not_whole_is_refused(folder, tmp_path, broken):
    copy = tmp_path / "clip"
    shutil.copytree(folder / "clip", copy)
    path = copy / "model.safetensors"
    if broken == "a weight is missing":
        tensors = load_file(path)
        del tensors["visual_projection.weight"]
        save_file(tensors, path, {"format": "pt"})
        complaint = "missing keys in its weights: visual_projection.weight"
    elif broken == "pickled weights":
        torch.save(load_file(path), copy / "pytorch_model.bin")
        path.unlink()
        complaint = "no weights in safetensors"
    elif broken == "an unknown kind":
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
        complaint = "of kind 'bert'; known are videomae"
    else:
        shutil.rmtree(copy)
        copy.mkdir()
        complaint = "no config.json"
    with pytest.raises(InputError, match=complaint):
        find_extractors(copy, CPU)
