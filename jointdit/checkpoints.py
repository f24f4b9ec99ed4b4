"""Model folders in diffusers' layout: finding them, reading them strictly, writing them whole.

A folder holds `model_index.json` and a folder per component, weights as safetensors only.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from .errors import InputError
from .joint_block import JointBlocks

BUNDLED = {"tiny": Path(__file__).parent / "tiny"}
INDEX = "model_index.json"

# What a component may be. The names are the contract of the format; the module a class comes from is not written.
CLASSES: dict[str, tuple[type, ...]] = {
    "video_vae": (diffusers.AutoencoderKLTemporalDecoder,),
    "video_unet": (diffusers.UNetSpatioTemporalConditionModel,),
    "video_scheduler": (diffusers.EulerDiscreteScheduler,),
    "image_encoder": (transformers.CLIPVisionModelWithProjection,),
    "feature_extractor": (transformers.CLIPImageProcessor,),
    "audio_vae": (diffusers.AutoencoderKL,),
    "vocoder": (transformers.SpeechT5HifiGan,),
    "audio_unet": (diffusers.AudioLDM2UNet2DConditionModel,),
    "audio_scheduler": (diffusers.DDIMScheduler,),
    "joint_blocks": (JointBlocks,),
    "tokenizer": (transformers.CLIPTokenizer, transformers.RobertaTokenizer),
    "text_encoder": (transformers.CLIPTextModel, transformers.ClapModel),
    "tokenizer_2": (transformers.T5Tokenizer,),
    "text_encoder_2": (transformers.T5EncoderModel,),
    "projection_model": (diffusers.AudioLDM2ProjectionModel,),
    "language_model": (transformers.GPT2LMHeadModel,),
}


def resolve(name: str | os.PathLike[str], local_files_only: bool = True) -> Path:
    """The folder of a model: a bundled name, a folder, or (unless `local_files_only`) a Hub name."""
    if str(name) in BUNDLED:
        return BUNDLED[str(name)]
    folder = Path(name)
    if folder.is_dir():
        return folder
    if not local_files_only and str(name).count("/") == 1:
        from huggingface_hub import snapshot_download  # the only use of the network, and only when asked for

        return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.txt", "*.safetensors", "*.model"]))
    raise InputError(
        f"no model {str(name)!r}: give {', '.join(BUNDLED)}, a folder with a {INDEX}, or with download a Hub name"
    )


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json` of a JointDiT folder."""
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); a JointDiT model folder has this file") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    if index.get("_class_name") != "JointDiTPipeline":
        raise InputError(f"{path}: describes a {index.get('_class_name')!r}, not a JointDiTPipeline")
    return index


def load_components(folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Every component that the index names, strictly; a component it lacks is None."""
    components: dict[str, Any] = dict.fromkeys(CLASSES)
    for name, entry in index.items():
        if name.startswith("_") or name == "defaults" or entry == [None, None]:
            continue
        known = {class_name(cls): cls for cls in CLASSES.get(name, ())}
        if not isinstance(entry, list) or len(entry) != 2 or entry[1] not in known:
            allowed = ", ".join(known) or "not a component of this model"
            raise InputError(f"{folder / INDEX}: {name} is {entry!r}; known: {allowed}")
        components[name] = load_component(known[entry[1]], folder / name, dtype)
    return components


def class_name(cls: type) -> str:
    """The published name; without torchvision, transformers' image processors carry the ending Pil."""
    return cls.__name__.removesuffix("Pil")


def load_component(cls: type, folder: Path, dtype: torch.dtype) -> Any:
    """One component from its folder. Models must have exactly the tensors that their config asks for.

    Raises InputError that names the file and the tensor.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: this component's folder is missing; fetch the model again")
    try:
        if not issubclass(cls, nn.Module):
            return cls.from_pretrained(folder, local_files_only=True)
        check_weights(cls, folder)
        option = {"dtype": dtype} if issubclass(cls, transformers.PreTrainedModel) else {"torch_dtype": dtype}
        return cls.from_pretrained(folder, local_files_only=True, use_safetensors=True, **option).eval()
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{folder}: cannot be loaded as {cls.__name__} ({' '.join(str(error).split())})") from error


def check_weights(cls: type[nn.Module], folder: Path) -> None:
    """Compares names and shapes of a folder's tensors with what its config asks for, before anything is loaded."""
    with torch.device("meta"):
        if issubclass(cls, transformers.PreTrainedModel):
            model = cls(cls.config_class.from_pretrained(folder, local_files_only=True))
        else:
            model = cls.from_config(cls.load_config(folder, local_files_only=True))
    # Versions of transformers differ in whether names start with the base model's; all of them load both.
    prefix = getattr(cls, "base_model_prefix", "") + "."
    expected = {name.removeprefix(prefix): list(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = {name.removeprefix(prefix) for name in getattr(model, "_tied_weights_keys", None) or ()}
    found = {name.removeprefix(prefix): shape for name, shape in _stored_shapes(folder)}
    if missing := sorted(expected.keys() - found.keys() - tied):
        raise InputError(f"{folder}: the weights lack {_some(missing)}; fetch or save the model again")
    if extra := sorted(found.keys() - expected.keys()):
        raise InputError(f"{folder}: the weights have {_some(extra)}, unknown to the config.json beside them")
    for name, shape in found.items():
        if shape != expected[name]:
            raise InputError(f"{folder}: {name} has shape {shape}, but config.json asks for {expected[name]}")


def _stored_shapes(folder: Path) -> Iterator[tuple[str, list[int]]]:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise InputError(f"{folder}: no .safetensors file; weights in other formats are not read")
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():
                    yield name, list(file.get_slice(name).get_shape())
        except SafetensorError as error:
            raise InputError(f"{path}: damaged ({error}); fetch or save it again") from error


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def save_components(folder: Path, components: Mapping[str, Any], index: Mapping[str, Any]) -> None:
    """A whole model folder, written beside and renamed; an older one of the same name is replaced only then."""
    with _beside(folder) as partial:
        entries: dict[str, Any] = dict(index)
        for name, component in components.items():
            if component is None:
                continue
            component.save_pretrained(partial / name)
            if isinstance(component, transformers.CLIPTextModel):
                _prefix_names(partial / name / "model.safetensors", component.base_model_prefix + ".")
            cls = next(cls for cls in reversed(CLASSES[name]) if isinstance(component, cls) or cls is CLASSES[name][0])
            # Never the module's own name: inside ComfyUI this package has another one.
            entries[name] = ["jointdit" if cls is JointBlocks else cls.__module__.split(".")[0], class_name(cls)]
        (partial / INDEX).write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _prefix_names(path: Path, prefix: str) -> None:
    """Names that start with the base model's, as every version of transformers reads them."""
    tensors = {prefix + name.removeprefix(prefix): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    if folder.exists() and not (folder / INDEX).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is no model folder; choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def save_joint_blocks(blocks: JointBlocks, path: Path) -> None:
    """A Joint Block file: what Stage A trained, with its config in the metadata. Written beside and renamed."""
    config = {name: value for name, value in blocks.config.items() if not name.startswith("_")}
    beside = path.with_suffix(".partial")
    tensors = {name: tensor.contiguous() for name, tensor in blocks.state_dict().items()}
    try:
        save_file(tensors, beside, metadata={"class": "JointBlocks", "config": json.dumps(config)})
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_joint_blocks(path: Path, dtype: torch.dtype = torch.float32) -> JointBlocks:
    """Reads what `save_joint_blocks` wrote, strictly."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({error})") from error
    if metadata.get("class") != "JointBlocks":
        raise InputError(f"{path}: not a Joint Block file; its metadata names {metadata.get('class')!r}")
    blocks = JointBlocks(**json.loads(metadata["config"]))
    try:
        blocks.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise InputError(f"{path}: does not fit its own config ({' '.join(str(error).split())})") from error
    return blocks.to(dtype).eval()
