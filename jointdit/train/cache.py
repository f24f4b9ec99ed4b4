"""Latents of both modalities with the embeddings of their pictures and captions, so that training runs the UNets alone.

A cache is a folder: `cache.json` says what was encoded and with which encoders, shards hold the clips (`write_cache`),
and an index tells where each clip is (`cache_index`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CLIPImageProcessor, PreTrainedTokenizerBase

from ..checkpoints.components import COMPONENTS
from ..datasets.splits import ALL
from ..encoders.conditioning import TextEmbeddings, pad_text
from ..errors import InputError
from ..latents import ClipShape
from ..pipeline import JointDiTPipeline
from .cache_index import Measures, read_shards

CONFIG = "cache.json"
ENCODERS = [name for name, each in COMPONENTS.items() if each.role in ("autoencoder", "image", "text")]
PROBE = "A DOG barks twice, then 2 claps & the café's bell: ding-dong!"  # told apart by tokenizers of one vocabulary
PER_CLIP = ("video", "audio", "image_latents", "image_embeds")
TEXT = ("audio_embeds", "audio_embeds_1", "audio_mask_1", "context")
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a number
OPEN_SHARDS = 128  # whose headers are kept
ANY = Measures()


@dataclass(frozen=True)
class Encoding:
    """What decides the contents of a cache, besides the recordings."""

    frames: int
    fps: str
    height: int
    width: int
    noise_augmentation: float
    weights: str  # digest of the encoders, tokenizers and the image processor

    @classmethod
    def of(cls, pipe: JointDiTPipeline, shape: ClipShape) -> Encoding:
        """The encoding of clips of `shape` by a model."""
        digest = hashlib.sha256()
        for name in ENCODERS:
            digest.update(_fingerprint(getattr(pipe, name)).encode())
        augmentation = pipe.defaults.noise_augmentation
        return cls(shape.frames, str(shape.fps), shape.height, shape.width, augmentation, digest.hexdigest()[:16])

    @classmethod
    def read(cls, folder: Path) -> Encoding:
        """That of a cache. Raises InputError if the folder is none."""
        try:
            return cls(**{name: value for name, value in _read_config(folder).items() if name != "split"})
        except TypeError as error:
            raise InputError(_no_cache(folder, error)) from error


def read_split(folder: Path) -> str | None:
    """The part of a published set that a cache holds, `ALL` of a whole one; None of recordings without splits."""
    return _read_config(folder).get("split")


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(_no_cache(folder, error)) from error


def _no_cache(folder: Path, error: Exception) -> str:
    return f"{folder / CONFIG}: not the configuration of a cache ({error}); make it with `jointdit cache`"


def _fingerprint(component: nn.Module | PreTrainedTokenizerBase | CLIPImageProcessor | None) -> str:
    """Changes with everything in a component that decides what it encodes: with any weight and their precision, with
    the words of a tokenizer, with the range of pixels."""
    if component is None:
        return "none"
    if isinstance(component, nn.Module):
        # Sums of whole numbers: no device and no number of threads rounds them in its own way.
        facts = [
            f"{name} {tensor.dtype} {tensor.contiguous().view(BITS[tensor.element_size()]).sum(dtype=torch.int64)}"
            for name, tensor in component.state_dict().items()
        ]
    elif isinstance(component, PreTrainedTokenizerBase):
        facts = [f"{token} {number}" for token, number in sorted(component.get_vocab().items())]
        facts += [str(component.model_max_length), str(component(PROBE)["input_ids"])]
    else:
        facts = [str(list(component.image_mean)), str(list(component.image_std))]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


@dataclass(frozen=True)
class CachedClips:
    """B clips out of a cache, in float32. video [B, F, C, h, w] and audio [B, C, l, m] scaled; image_latents
    [B, C, h, w], image_embeds [B, 1, D], text: of their captions; no_text: of the empty caption."""

    video: Tensor
    audio: Tensor
    image_latents: Tensor
    image_embeds: Tensor
    text: TextEmbeddings
    no_text: TextEmbeddings


class LatentCache:
    """The clips of a folder that `write_cache` filled, each once; tensors are read from disk when they are asked for.

    least: clips that measure less in any way are left out. Raises InputError if that leaves none.
    """

    def __init__(self, folder: Path, least: Measures = ANY) -> None:
        self.folder = folder
        self.encoding = Encoding.read(folder)
        self.split = read_split(folder)
        self._where: list[tuple[Path, int, int]] = []  # of each clip: shard, row, and the number of its caption there
        self.names: list[str] = []
        self.captions: list[str] = []
        self._opened = lru_cache(OPEN_SHARDS)(lambda path: safe_open(path, framework="pt"))
        seen: set[str] = set()
        for shard in read_shards(folder):
            if least != ANY and len(shard.measures) < len(shard.clips):
                raise InputError(
                    f"{shard.path}: its clips were not measured, so that min_loudness, min_motion and min_sync cannot "
                    "choose among them; make the cache again, with the extra evaluate installed"
                )
            for row, name in enumerate(shard.clips):
                if name in seen or (shard.measures and not shard.measures[row].reaches(least)):
                    continue
                seen.add(name)
                self._where.append((shard.path, row, shard.caption[row]))
                self.names.append(name)
                self.captions.append(shard.captions[shard.caption[row]])
        if not self.names and least != ANY:
            raise InputError(f"{folder}: no clip has at least {least}; lower min_loudness, min_motion or min_sync")
        if not self.names:
            raise InputError(f"{folder}: the cache holds no clips; fill it with `jointdit cache`")

    def __len__(self) -> int:
        return len(self.names)

    def check(self, pipe: JointDiTPipeline) -> None:
        """Raises InputError unless the cache was made with this model's encoders."""
        ours = Encoding.of(pipe, pipe.shape()).weights
        if ours != self.encoding.weights:
            raise InputError(f"{self.folder}: made with another model's encoders; make the cache again with this model")

    def check_split(self, split: str) -> None:
        """Raises InputError if the cache holds another part of a published set than `split`."""
        if self.split not in (None, split):
            holds = "a whole set, with what judges models" if self.split == ALL else f"the split {self.split}"
            raise InputError(
                f"{self.folder}: holds {holds}, and this run trains on {split}; name a cache that "
                f"`jointdit cache --split {split}` made, or set split={self.split} if you mean it"
            )

    def read(self, index: int) -> CachedClips:
        """One clip."""
        path, row, caption = self._where[index]
        file = self._opened(path)
        texts = [
            TextEmbeddings(**{name: file.get_tensor(f"text.{number}.{name}").float()[None] for name in TEXT})
            for number in (caption, 0)  # the empty one sorts first
        ]
        rows = {name: file.get_slice(name)[row].float()[None] for name in PER_CLIP}
        return CachedClips(**rows, text=texts[0], no_text=texts[1])

    def batch(self, indices: Iterable[int]) -> CachedClips:
        """The clips `indices` [B]."""
        return join_clips([self.read(index) for index in indices])


def join_clips(clips: Sequence[CachedClips]) -> CachedClips:
    """All of these in one batch; texts are padded to the longest."""
    length = max(text.audio_embeds_1.shape[1] for clip in clips for text in (clip.text, clip.no_text))
    rows = {name: torch.cat([getattr(clip, name) for clip in clips]) for name in PER_CLIP}
    texts, no_texts = [clip.text for clip in clips], [clip.no_text for clip in clips]
    return CachedClips(**rows, text=_join(texts, length), no_text=_join(no_texts, length))


def _join(texts: Sequence[TextEmbeddings], length: int) -> TextEmbeddings:
    padded = [pad_text(text, length) for text in texts]
    return TextEmbeddings(**{name: torch.cat([getattr(text, name) for text in padded]) for name in TEXT})
