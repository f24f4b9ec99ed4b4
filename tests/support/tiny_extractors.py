"""Networks of the real classes at tiny size with random weights, saved as they are published."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers as t

SIDE, WIDTH = 32, 16


def _small(**more: object) -> dict[str, object]:
    sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return sizes | more


def _pictures(folder: Path) -> None:
    means = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}, **means})
    )


def write_videomae(folder: Path) -> Path:
    config = t.VideoMAEConfig(**_small(image_size=SIDE, num_frames=4, tubelet_size=2, num_labels=5))
    t.VideoMAEForVideoClassification(config).save_pretrained(folder)
    _pictures(folder)
    return folder


def write_clip(folder: Path) -> Path:
    texts = _small(vocab_size=64, max_position_embeddings=16, projection_dim=8, bos_token_id=0, eos_token_id=1)
    config = t.CLIPConfig(
        text_config=texts, vision_config=_small(image_size=SIDE, patch_size=8, projection_dim=8), projection_dim=8
    )
    t.CLIPModel(config).save_pretrained(folder)
    names = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = names + [name + "</w>" for name in names[2:]]
    t.CLIPTokenizer(vocab={name: index for index, name in enumerate(vocabulary)}, merges=[]).save_pretrained(folder)
    _pictures(folder)
    return folder


def write_clap(folder: Path) -> Path:
    sound = {
        **{
            "spec_size": 256,
            "num_mel_bins": 64,
            "patch_size": 4,
            "patch_stride": [4, 4],
            "patch_embeds_hidden_size": 8,
        },
        **{"depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 16, "window_size": 4, "num_classes": 3},
        "projection_dim": 8,
    }
    texts = _small(vocab_size=64, max_position_embeddings=18, projection_dim=8, pad_token_id=1)
    t.ClapModel(t.ClapConfig(text_config=texts, audio_config=sound, projection_dim=8)).save_pretrained(folder)
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdefghijklmnopqrstuvwxyz", "Ġ"]
    t.RobertaTokenizer(vocab={name: index for index, name in enumerate(names)}, merges=[]).save_pretrained(folder)
    t.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    return folder


def write_wav2vec2(folder: Path) -> Path:
    config = t.Wav2Vec2Config(
        **_small(conv_dim=(8, 8), conv_stride=(8, 8), conv_kernel=(10, 8), num_conv_pos_embeddings=8),
        num_conv_pos_embedding_groups=2,
    )
    t.Wav2Vec2Model(config).save_pretrained(folder)
    t.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def write_ast(folder: Path) -> Path:
    config = t.ASTConfig(**_small(max_length=64, num_mel_bins=32, patch_size=16, num_labels=6))
    t.ASTForAudioClassification(config).save_pretrained(folder)
    t.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    return folder


def write_all(folder: Path) -> Path:
    """One of each, in folders of their own, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for write in (write_videomae, write_clip, write_clap, write_wav2vec2, write_ast):
            write(folder / write.__name__.removeprefix("write_"))
    return folder
