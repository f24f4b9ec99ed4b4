"""Networks that turn clips into features, out of folders as `save_pretrained` of transformers writes them.

Nothing is downloaded, weights are read from safetensors alone and in full, and each network is named with the checksum
of its weights, because a distance means nothing without the features that it is of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import InputError, in_one_line
from ..media import Clip, resample_audio

KINDS = ("videomae", "clip", "clap", "audio-spectrogram-transformer", "wav2vec2", "hubert", "wavlm")
SPEECH = ("wav2vec2", "hubert", "wavlm")
TRAINED_ALONE = "masked_spec_embed"  # stands for masked parts of a sound in training; published files may lack it
FRAMES = 16  # of a clip, evenly spread, that a network of single pictures sees
READ_AT_ONCE = 2**20  # bytes

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """What a network says of one clip; None where it does not see or hear.

    pictures: of the video as a whole [D].    frames: of single pictures [F, D].    sound: [D].
    classes: logits [C] of what is heard, or seen.
    """

    pictures: Vector | None = None
    frames: Vector | None = None
    sound: Vector | None = None
    classes: Vector | None = None


@dataclass(frozen=True, eq=False)
class Extractor:
    """A network.

    name: of its folder.    kind: of `KINDS`.    network: its class.    weights: SHA-256 of its files of weights.
    of_text: an embedding [D] in the space of `Features.frames` or `Features.sound`; None where it reads no texts.
    """

    name: str
    kind: str
    network: str
    weights: str
    of_clip: Callable[[Clip], Features]
    of_text: Callable[[str], Vector] | None

    def describe(self) -> dict[str, str]:
        """What names it in a result."""
        return {"name": self.name, "network": self.network, "sha256": self.weights}


def find_extractors(folder: Path, device: torch.device) -> list[Extractor]:
    """The network of a folder, or those of the folders in it.

    Raises InputError if there is none, or one that is unknown or incomplete.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name one with a network of transformers, or with several")
    folders = [folder] if (folder / "config.json").is_file() else sorted(folder.glob("*/config.json"))
    if not folders:
        raise InputError(f"{folder}: no config.json in it or in its folders; name one with a network of transformers")
    return [load_extractor(each if each.is_dir() else each.parent, device) for each in folders]


def load_extractor(folder: Path, device: torch.device) -> Extractor:
    """A network with what prepares its inputs. Raises InputError if it is unknown or incomplete."""
    config = _read_json(folder / "config.json")
    kind, (network, *_) = config.get("model_type"), [*(config.get("architectures") or []), ""]
    made = getattr(transformers, network, None)
    if kind not in KINDS or made is None:
        raise InputError(f"{folder}: a network {network or '?'} of kind {kind!r}; known are {', '.join(KINDS)}")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no weights in safetensors; convert them, for no pickle is read")
    try:
        model, found = made.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
        _refuse_incomplete(folder, model, found)
        model = model.to(device).eval().requires_grad_(False)
        of_clip, of_text = _BUILDERS[kind](model, folder, device)
    except (OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
        raise InputError(f"{folder}: cannot be loaded as {network} ({in_one_line(error, 300)})") from error
    return Extractor(_name(folder), kind, network, _checksum(files), of_clip, of_text)


def _refuse_incomplete(folder: Path, model: torch.nn.Module, found: Mapping[str, Any]) -> None:
    """Raises InputError for weights that are not exactly the network's.

    Not so for whole numbers, such as indices of positions: the class computes them, and of one network some published
    files have them and others do not.
    """
    indices = {name for name, buffer in model.named_buffers() if not buffer.is_floating_point()}
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        wrong = sorted(str(key) for key in found[problem] if key not in indices)
        if problem == "missing_keys":
            wrong = [key for key in wrong if key.rpartition(".")[2] != TRAINED_ALONE]
        if wrong:
            raise InputError(f"{folder}: {problem.replace('_', ' ')} in its weights: {', '.join(wrong[:3])}")


def _name(folder: Path) -> str:
    """That of the folder; in the Hugging Face cache, where folders are named by commits, that of the repository."""
    where = folder.absolute()
    if where.parent.name == "snapshots" and where.parent.parent.name.startswith("models--"):
        return where.parent.parent.name.rpartition("--")[2]
    return where.name


Built = tuple[Callable[[Clip], Features], Callable[[str], Vector] | None]


def _videomae(model: Any, folder: Path, device: torch.device) -> Built:
    """Tokens pooled as a classifier of the kind does it, whose logits are given too."""
    prepare = _pictures(_read_json(folder / "preprocessor_config.json"), device)
    count = model.config.num_frames

    def of_clip(clip: Clip) -> Features:
        pixels = prepare(_spread(clip.frames, count))[None]
        tokens = model.base_model(pixel_values=pixels).last_hidden_state
        pooled = tokens.mean(1) if model.config.use_mean_pooling else tokens[:, 0]
        if getattr(model, "fc_norm", None) is not None:
            pooled = model.fc_norm(pooled)
        head = getattr(model, "classifier", None)
        return Features(pictures=_vector(pooled), classes=None if head is None else _vector(head(pooled)))

    return of_clip, None


def _clip(model: Any, folder: Path, device: torch.device) -> Built:
    """The projected embeddings of evenly spread frames, and of texts."""
    prepare = _pictures(_read_json(folder / "preprocessor_config.json"), device)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def of_clip(clip: Clip) -> Features:
        pixels = prepare(_spread(clip.frames, min(FRAMES, len(clip.frames))))
        frames = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        return Features(frames=frames.double().cpu().numpy())

    def of_text(text: str) -> Vector:
        tokens = tokenizer([text], truncation=True, max_length=_positions(model), return_tensors="pt").to(device)
        return _vector(model.text_projection(model.text_model(**tokens).pooler_output))

    return of_clip, of_text


def _clap(model: Any, folder: Path, device: torch.device) -> Built:
    """The projected embeddings of the sound and of texts."""
    prepare = transformers.ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def of_clip(clip: Clip) -> Features:
        # Of longer sounds it would take a part at random.
        sound = _mono(clip, prepare.sampling_rate)[: prepare.nb_max_samples]
        inputs = prepare(sound, sampling_rate=prepare.sampling_rate, return_tensors="pt").to(device)
        heard = model.audio_model(input_features=inputs.input_features, is_longer=inputs.get("is_longer"))
        return Features(sound=_vector(model.audio_projection(heard.pooler_output)))

    def of_text(text: str) -> Vector:
        tokens = tokenizer([text], truncation=True, max_length=_positions(model), return_tensors="pt").to(device)
        return _vector(model.text_projection(model.text_model(**tokens).pooler_output))

    return of_clip, of_text


def _speech(model: Any, folder: Path, device: torch.device) -> Built:
    """The mean of the last hidden state over time."""
    prepare = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder, local_files_only=True)

    def of_clip(clip: Clip) -> Features:
        sound = _mono(clip, prepare.sampling_rate)
        inputs = prepare(sound, sampling_rate=prepare.sampling_rate, return_tensors="pt").to(device)
        return Features(sound=_vector(model.base_model(inputs.input_values).last_hidden_state.mean(1)))

    return of_clip, None


def _spectrogram(model: Any, folder: Path, device: torch.device) -> Built:
    """The pooled token, and logits if it is a classifier."""
    prepare = transformers.ASTFeatureExtractor.from_pretrained(folder, local_files_only=True)

    def of_clip(clip: Clip) -> Features:
        sound = _mono(clip, prepare.sampling_rate)
        inputs = prepare(sound, sampling_rate=prepare.sampling_rate, return_tensors="pt").to(device)
        pooled = model.base_model(inputs.input_values).pooler_output
        head = getattr(model, "classifier", None)
        return Features(sound=_vector(pooled), classes=None if head is None else _vector(head(pooled)))

    return of_clip, None


_BUILDERS: dict[str, Callable[[Any, Path, torch.device], Built]] = {
    "videomae": _videomae,
    "clip": _clip,
    "clap": _clap,
    **dict.fromkeys(SPEECH, _speech),
    "audio-spectrogram-transformer": _spectrogram,
}


def _pictures(config: Mapping[str, Any], device: torch.device) -> Callable[[NDArray[np.uint8]], Tensor]:
    """What makes a network's input [F, 3, H, W] of frames [F, H, W, 3] as its own processor does: the shorter side is
    scaled to its size, or both sides are, the middle cut out, and its mean and deviation taken off.

    config: of the processor of pictures.
    """
    size, crop = config["size"], config.get("crop_size") if config.get("do_center_crop", True) else None
    resample = Image.Resampling(config.get("resample", Image.Resampling.BICUBIC))
    mean, deviation = (torch.tensor(config[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))

    def prepare(frames: NDArray[np.uint8]) -> Tensor:
        height, width = _scaled(frames.shape[1:3], size)
        down, along = _sides(crop) if crop else (height, width)
        top, left = (height - down) // 2, (width - along) // 2
        box = (left, top, left + along, top + down)
        fitted = [Image.fromarray(frame).resize((width, height), resample).crop(box) for frame in frames]
        pixels = torch.from_numpy(np.stack([np.asarray(each) for each in fitted])).permute(0, 3, 1, 2).float() / 255
        return ((pixels - mean) / deviation).to(device)

    return prepare


def _scaled(shape: tuple[int, ...], size: int | Mapping[str, int]) -> tuple[int, int]:
    """Height and width of a picture as a processor's `size` has it."""
    shortest = size if isinstance(size, int) else size.get("shortest_edge")
    if shortest is None:
        return _sides(size)
    short, long = sorted(shape)
    longest = int(shortest * long / short)
    return (shortest, longest) if shape[0] <= shape[1] else (longest, shortest)


def _sides(size: int | Mapping[str, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size["height"], size["width"])


def _spread(frames: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]


def _mono(clip: Clip, rate: int) -> NDArray[np.float32]:
    return resample_audio(np.ascontiguousarray(clip.audio.mean(0, keepdims=True)), clip.sample_rate, rate)[0]


def _positions(model: Any) -> int:
    """Tokens that its text encoder takes; RoBERTa's positions begin after two that are not used."""
    most = model.config.text_config.max_position_embeddings
    return most - 2 if model.config.model_type == "clap" else most


def _vector(rows: Tensor) -> Vector:
    """The only row of [1, D]."""
    return rows[0].double().cpu().numpy()


def _checksum(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while block := file.read(READ_AT_ONCE):
                digest.update(block)
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); name a folder that `save_pretrained` wrote") from error
