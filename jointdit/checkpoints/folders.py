"""Model folders in diffusers' layout: finding them, reading them strictly, writing them whole.

A folder holds `model_index.json` and a folder per component, weights as safetensors only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import ModelMixin
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ..checked import placed, shown
from ..errors import InputError, in_one_line, some
from ..media.partials import partial_folder
from .components import COMPONENTS, INDEX
from .configs import check_configs, no_more_parts_than
from .download import fetch
from .finite import check_finite
from .hub import Unreachable, look_up_repository
from .index import BUNDLED as BUNDLED
from .index import read_index as read_index
from .single_file import align_epsilon

# Of a Hub repository: settings, and of each component's folder the plain weights, without their variants.
FETCHED = ["*.json", "*/*.txt", "*/*.model", "*/*model.safetensors", "*/*model-*.safetensors"]
# Weights of a component by diffusers' or transformers' name, whose variant stands before or after a shard's number.
WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_)?model(?:\.(?P<early>[a-z]\w*))?"
    r"(?:-(?P<shard>\d+)-of-(?P<shards>\d+))?(?:\.(?P<late>[a-z]\w*))?\.safetensors"
)
# Constants that some versions of transformers wrote beside the weights.
CONSTANTS = re.compile(
    r"(^|\.)(position_ids|token_type_ids|relative_position_index|num_batches_tracked|attn\.(masked_)?bias)$"
)

TEXT_MODEL = "text_model."
# What diffusers and transformers raise over files and settings that are broken, or that ask for what is not installed.
BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)


def resolve(name: str | os.PathLike[str], local_files_only: bool = True) -> Path:
    """The folder of a model: a bundled name, a folder, or a Hub name, fetched unless `local_files_only`."""
    if str(name) in BUNDLED:
        return BUNDLED[str(name)]
    folder = Path(name)
    if folder.is_dir():
        return folder
    if str(name).count("/") == 1:
        if not local_files_only:
            try:
                return fetch(look_up_repository(str(name), FETCHED))
            except Unreachable:
                if (cached := _cached(str(name))) is None:
                    raise
                return cached
        if (cached := _cached(str(name))) is not None:
            return cached
    raise InputError(
        f"no model {str(name)!r}: give {', '.join(BUNDLED)}, a folder with a {INDEX}, or with download a Hub name"
    )


def _cached(name: str) -> Path | None:
    """A repository's files in the Hugging Face cache."""
    with suppress(HfHubHTTPError, OSError, ValueError):
        return Path(snapshot_download(name, allow_patterns=FETCHED, local_files_only=True))
    return None


def load_components(folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Every component that the index names, strictly; an optional one that it lacks is None."""
    components: dict[str, Any] = dict.fromkeys(COMPONENTS)
    for name, entry in index.items():
        if name.startswith("_") or name == "defaults" or entry == [None, None]:
            continue
        known = COMPONENTS[name].names if name in COMPONENTS else []
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str) and entry[1] in known):
            allowed = ", ".join(known) or "not a component of this model"
            raise InputError(f"{folder / INDEX}: {shown(name)} is {shown(entry)}; known: {allowed}")
        components[name] = load_component(COMPONENTS[name].load_class(entry[1]), folder / name, dtype)
    if missing := [each.name for each in COMPONENTS.values() if components[each.name] is None and not each.optional]:
        raise InputError(f"{folder / INDEX}: names no {some(missing)}; fetch or save the model again")
    return components


def load_component(cls: type[Any], folder: Path, dtype: torch.dtype) -> Any:
    """One component from its folder. Models must have exactly the tensors that their config asks for.

    Of several variants of the weights the plain one is read, else fp16, else the first.
    Raises InputError that names the file and the tensor.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: this component's folder is missing; fetch the model again")
    check_configs(cls, folder)
    if issubclass(cls, transformers.PreTrainedTokenizerBase):
        names = list(cls.vocab_files_names.values())
        if not any((folder / name).is_file() for name in names):  # transformers would make one that knows no word
            raise InputError(f"{folder}: no vocabulary ({', '.join(names)}); fetch the model again")
    try:
        if not issubclass(cls, transformers.PreTrainedModel | ModelMixin):
            return cls.from_pretrained(folder, local_files_only=True)
        options: dict[str, Any] = {"use_safetensors": True, "variant": check_weights(cls, folder)}
        options["dtype" if issubclass(cls, transformers.PreTrainedModel) else "torch_dtype"] = dtype
        model: Any = cls.from_pretrained(folder, local_files_only=True, **options)
    except InputError:
        raise
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, BROKEN):  # the first is all that tokenizers raises
            raise
        raise InputError(f"{folder}: cannot be loaded as {cls.__name__} ({in_one_line(error)})") from error
    check_finite(folder, model.state_dict())
    if epsilon := getattr(model.config, "_resnet_epsilon", None):
        align_epsilon(model, epsilon)
    return model.eval()


def check_weights(cls: type[Any], folder: Path) -> str | None:
    """Compares names and shapes of a folder's tensors with what its config asks for, before anything is loaded.

    Returns the variant ("fp16" and the like) whose files were compared, None for the plain ones.
    """
    variant, paths = weight_files(folder)
    stored = {name: shape for path in paths for name, shape in stored_shapes(path)}
    with placed(folder), torch.device("meta"), no_more_parts_than(len(stored)):
        if issubclass(cls, transformers.PreTrainedModel):
            config_class: Any = cls.config_class
            model: Any = cls(config_class.from_pretrained(folder, local_files_only=True))
        else:
            model = cls.from_config(cls.load_config(folder, local_files_only=True))
    # Versions of transformers differ in whether names start with the base model's; all of them load both. Version 5 has
    # dropped the inner model of CLIP's text encoder, and loads weights that are named by it.
    prefix = getattr(cls, "base_model_prefix", "") + "."
    inner = TEXT_MODEL if cls is transformers.CLIPTextModel and not hasattr(model, "text_model") else ""

    def plain(name: str) -> str:
        return name.removeprefix(prefix).removeprefix(inner)

    expected = {plain(name): list(tensor.shape) for name, tensor in model.state_dict().items()}
    optional = {plain(name) for name in getattr(model, "_tied_weights_keys", None) or ()}
    found = {plain(name): shape for name, shape in stored.items()}
    if missing := [name for name in sorted(expected.keys() - found.keys() - optional) if not CONSTANTS.search(name)]:
        raise InputError(f"{folder}: the weights lack {some(missing)}; fetch or save the model again")
    if extra := [name for name in sorted(found.keys() - expected.keys()) if not CONSTANTS.search(name)]:
        raise InputError(f"{folder}: the weights have {some(extra)}, unknown to the config.json beside them")
    for name in expected.keys() & found.keys():
        if found[name] != expected[name]:
            raise InputError(f"{folder}: {name} has shape {found[name]}, but config.json asks for {expected[name]}")
    return variant


def weight_files(folder: Path) -> tuple[str | None, list[Path]]:
    """The variant of the weights that is read, and its files. Raises InputError for a shard that is missing."""
    variants: dict[str | None, list[re.Match[str]]] = {}
    for name in sorted(path.name for path in folder.glob("*.safetensors")):
        if match := WEIGHTS.fullmatch(name):
            variants.setdefault(match["early"] or match["late"], []).append(match)
    if not variants:
        raise InputError(f"{folder}: no .safetensors file; weights in other formats are not read")
    variant = min(variants, key=lambda name: (name is not None, name != "fp16", name))
    files = variants[variant]
    shards = int(files[-1]["shards"] or 0)
    if absent := sorted(set(range(1, shards + 1)) - {int(match["shard"] or 0) for match in files}):
        raise InputError(f"{folder}: shard {absent[0]} of {shards} is missing; fetch the model again")
    return variant, [folder / match.string for match in files]


def stored_shapes(path: Path) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes of a file's tensors, from its header. Raises InputError where that is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                yield name, list(file.get_slice(name).get_shape())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged ({in_one_line(error)}); fetch or save it again") from error


def save_components(folder: Path, components: Mapping[str, Any], index: Mapping[str, Any]) -> None:
    """A whole model folder, written beside and renamed; an older one of the same name is replaced only then."""
    with _beside(folder) as partial:
        entries: dict[str, Any] = dict(index)
        for name, component in components.items():
            if component is None:
                continue
            component.save_pretrained(partial / name)
            if isinstance(component, transformers.CLIPTextModel):
                _name_by_inner_model(partial / name / "model.safetensors")
            known = COMPONENTS[name]
            names = [each for each in known.names if isinstance(component, known.load_class(each))] or known.names[:1]
            entries[name] = [known.library, names[-1]]
        (partial / INDEX).write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for weights in partial.rglob("*.safetensors"):  # which safetensors writes for their owner alone
            weights.chmod((partial / INDEX).stat().st_mode)


def _name_by_inner_model(path: Path) -> None:
    """Names of CLIP's text encoder as its published weights have them and every version of transformers reads them."""
    tensors = {TEXT_MODEL + name.removeprefix(TEXT_MODEL): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    if folder.exists() and not (folder / INDEX).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is no model folder; choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(folder.parent) as beside:
        partial = beside / "new"
        partial.mkdir()
        yield partial
        if folder.exists():
            folder.rename(beside / "old")  # deleted with what is left there
        partial.rename(folder)
