"""Latents of both modalities with the embeddings of their pictures and captions, so that training runs the UNets alone.

A cache is a folder: `cache.json` says what was encoded and with which encoders; every shard is one safetensors file of
whole recordings that appears when it is complete, so that a kill loses at most the shard in work and doubles nothing.
Each of N processes writes shards of its own recordings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPImageProcessor, PreTrainedTokenizerBase

from ..checkpoints.components import COMPONENTS
from ..encoders.autoencoders import to_model_range
from ..encoders.conditioning import TextEmbeddings, encode_clip_image, pad_text
from ..errors import InputError
from ..latents import ClipShape
from ..media.files import whole_file
from ..pipeline import JointDiTPipeline
from .recordings import Recording, TrainingClip, cut
from .seeds import generator_of

CONFIG = "cache.json"
SHARD_CLIPS = 64
ENCODERS = [name for name, each in COMPONENTS.items() if each.role in ("autoencoder", "image", "text")]
PROBE = "A DOG barks twice, then 2 claps & the café's bell: ding-dong!"  # told apart by tokenizers of one vocabulary
PER_CLIP = ("video", "audio", "image_latents", "image_embeds")
TEXT = ("audio_embeds", "audio_embeds_1", "audio_mask_1", "context")
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a number


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
class Written:
    """What a run of `write_cache` found done and did: clips in the shards of this process, and files left out with
    their reasons."""

    clips: int
    skipped: dict[str, str]


@torch.no_grad()
def write_cache(
    pipe: JointDiTPipeline,
    recordings: Sequence[Recording],
    folder: Path,
    shape: ClipShape,
    part: int = 0,
    parts: int = 1,
    shard_clips: int = SHARD_CLIPS,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Encode every `parts`-th recording, from number `part` on; go on after what is there.

    progress: called with (recordings done, recordings of this part), first with what was there before.
    Raises InputError if the folder holds a cache of another encoding.
    """
    _claim(folder, Encoding.of(pipe, shape))
    mine = recordings[part::parts]
    done: set[str] = set()
    skipped: dict[str, str] = {}
    clips, number = 0, 0
    for path in _shards(folder, f"{part:03d}-of-{parts:03d}"):
        metadata = _metadata(path)
        done.update(metadata["recordings"])
        skipped |= metadata["skipped"]
        clips += len(metadata["clips"])
        number += 1
    rows: list[tuple[TrainingClip, dict[str, Tensor]]] = []
    whole: list[str] = []
    left_out: dict[str, str] = {}

    def flush() -> None:
        nonlocal number, clips
        if whole:
            _write_shard(
                folder / f"shard-{part:03d}-of-{parts:03d}-{number:05d}.safetensors", pipe, rows, whole, left_out
            )
            number, clips = number + 1, clips + len(rows)
        rows.clear()
        whole.clear()
        left_out.clear()

    todo = [recording for recording in mine if recording.name not in done]
    for index, recording in enumerate(todo):
        if progress is not None:
            progress(len(mine) - len(todo) + index, len(mine))
        try:
            rows += [(clip, _encode(pipe, clip)) for clip in cut(recording, shape, pipe.layout.sample_rate)]
        except InputError as error:
            left_out[recording.name] = skipped[recording.name] = str(error)
        whole.append(recording.name)
        if len(rows) >= shard_clips:
            flush()
    flush()
    if progress is not None:
        progress(len(mine), len(mine))
    return Written(clips, skipped)


def _claim(folder: Path, encoding: Encoding) -> None:
    """Write the folder's configuration, or compare with it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CONFIG
    if path.exists():
        there = _read_encoding(path)
        changed = [
            f"{key} {old} -> {asdict(encoding)[key]}"
            for key, old in asdict(there).items()
            if asdict(encoding)[key] != old
        ]
        if changed:
            raise InputError(f"{path}: made with another configuration ({', '.join(changed)}); choose another folder")
        return
    with whole_file(path) as partial:
        partial.write_text(json.dumps(asdict(encoding), indent=2) + "\n", encoding="utf-8")


def _read_encoding(path: Path) -> Encoding:
    try:
        return Encoding(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: not the configuration of a cache ({error}); make it with `jointdit cache`"
        ) from error


def _encode(pipe: JointDiTPipeline, clip: TrainingClip) -> dict[str, Tensor]:
    """The noise on the picture follows from the clip's name, as everything else does."""
    device = pipe.device
    frames = to_model_range(rearrange(torch.from_numpy(clip.frames), "f h w c -> f c h w").to(device))
    noise = torch.randn(frames[:1].shape, generator=generator_of(clip.name)).to(device)
    augmented = frames[:1] + pipe.defaults.noise_augmentation * noise
    audio = torch.from_numpy(np.ascontiguousarray(clip.audio))[None].to(device)
    return {
        "video": pipe.video_codec.encode_video(frames[None])[0],
        "audio": pipe.audio_codec.encode_audio(audio)[0],
        "image_latents": pipe.video_codec.encode_image(augmented)[0],
        "image_embeds": encode_clip_image(pipe.feature_extractor, pipe.image_encoder, frames[:1])[0],
    }


def _write_shard(
    path: Path,
    pipe: JointDiTPipeline,
    rows: Sequence[tuple[TrainingClip, dict[str, Tensor]]],
    recordings: Sequence[str],
    skipped: dict[str, str],
) -> None:
    tensors = (
        {name: torch.stack([row[name] for _, row in rows]).half().cpu().contiguous() for name in PER_CLIP}
        if rows
        else {}
    )
    captions = sorted({clip.caption for clip, _ in rows} | {""})
    for index, caption in enumerate(captions):
        text = pipe.encode_text([caption])
        tensors |= {f"text.{index}.{name}": getattr(text, name)[0].half().cpu().contiguous() for name in TEXT}
    described = {
        "clips": [clip.name for clip, _ in rows],
        "captions": captions,
        "caption": [captions.index(clip.caption) for clip, _ in rows],
        "recordings": list(recordings),
        "skipped": dict(skipped),
    }
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata={"shard": json.dumps(described)})


def _shards(folder: Path, part: str = "*") -> list[Path]:
    return sorted(folder.glob(f"shard-{part}-*.safetensors"))


def _metadata(path: Path) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["shard"])


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
    """The clips of a folder that `write_cache` filled; tensors are read from disk when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.encoding = _read_encoding(folder / CONFIG)
        self._shards = _shards(folder)
        self._where: list[tuple[int, int]] = []  # shard and row of each clip
        self.names: list[str] = []
        self.captions: list[str] = []
        self._caption: list[int] = []  # its number in the shard
        for number, path in enumerate(self._shards):
            described = _metadata(path)
            self._where += [(number, row) for row in range(len(described["clips"]))]
            self.names += described["clips"]
            self._caption += described["caption"]
            self.captions += [described["captions"][index] for index in described["caption"]]
        if not self.names:
            raise InputError(f"{folder}: the cache holds no clips; fill it with `jointdit cache`")

    def __len__(self) -> int:
        return len(self.names)

    def check(self, pipe: JointDiTPipeline) -> None:
        """Raises InputError unless the cache was made with this model's encoders."""
        ours = Encoding.of(pipe, pipe.shape()).weights
        if ours != self.encoding.weights:
            raise InputError(f"{self.folder}: made with another model's encoders; make the cache again with this model")

    def batch(self, indices: Iterable[int]) -> CachedClips:
        """The clips `indices` [B]."""
        rows: dict[str, list[Tensor]] = {name: [] for name in PER_CLIP}
        texts: list[TextEmbeddings] = []
        for index in indices:
            number, row = self._where[index]
            with safe_open(self._shards[number], framework="pt") as file:
                for name in PER_CLIP:
                    rows[name].append(file.get_slice(name)[row].float())
                for caption in (self._caption[index], 0):  # the empty one sorts first
                    parts = {name: file.get_tensor(f"text.{caption}.{name}").float()[None] for name in TEXT}
                    texts.append(TextEmbeddings(**parts))
        length = max(text.audio_embeds_1.shape[1] for text in texts)
        texts = [pad_text(text, length) for text in texts]
        stacked = {name: torch.stack(tensors) for name, tensors in rows.items()}
        return CachedClips(**stacked, text=_stack(texts[::2]), no_text=_stack(texts[1::2]))


def _stack(texts: Sequence[TextEmbeddings]) -> TextEmbeddings:
    return TextEmbeddings(**{name: torch.cat([getattr(text, name) for text in texts]) for name in TEXT})
