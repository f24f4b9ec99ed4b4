"""Run by ComfyUI's Python: the experts under its own memory manager, loaded in part and whole. Prints what it finds.

Arguments: ComfyUI's folder, an empty folder.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

ROOT, COMFYUI, BASE = Path(__file__).parents[2], sys.argv[1], sys.argv[2]
sys.path[:0] = [COMFYUI, str(Path(__file__).parent)]

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu, comfy.cli_args.args.base_directory = True, BASE

import torch  # noqa: E402
from comfy import model_management as manager  # noqa: E402
from torch import nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py")
assert spec and spec.loader
sys.modules["pack"] = pack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
sys.path.append(str(ROOT))  # the models are made with the library by its own name
from tiny_models import conditioning, inputs, joint_model  # noqa: E402

memory = importlib.import_module("pack.nodes.work.memory")
float8 = importlib.import_module("pack.jointdit.runtime.float8")
layers = importlib.import_module("pack.nodes.work.layers")
PARTS = ("video_unet", "audio_unet", "joint_blocks")
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def patchers_of(model, device):
    found = {}
    for name in PARTS:
        layers.cast_at_use(getattr(model, name))
        held = memory.Weights.of(name, getattr(model, name))
        found[name] = layers.LayerPatcher(held, load_device=device, offload_device=CPU)
    return found


def predictions(model):
    with torch.no_grad():
        found = model(*inputs(), conditioning())
    return torch.cat((found.video.flatten(), found.audio.flatten()))


def bytes_of(module, device=None):
    """Counted tensor by tensor."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(each.nbytes for each in tensors if device in (None, each.device))


def casting(model):
    return sum(bool(getattr(layer, "comfy_cast_weights", False)) for layer in model.modules())


def in_parts(eight_bits=False):
    """Real numbers, on the CPU."""
    model = joint_model(open_gates=True)
    if eight_bits:
        for unet in (model.video_unet, model.audio_unet):
            float8.store_in_float8(unet)
    plain = predictions(model)
    patchers = patchers_of(model, CPU)
    weights = {name: each.clone() for name, each in model.state_dict().items()}
    found = {"sizes": {name: [each.model_size(), bytes_of(each.model)] for name, each in patchers.items()}}
    steps = found["steps"] = []

    def note(step):
        loaded = [each.loaded_size() for each in patchers.values()]
        steps.append([step, sum(loaded), casting(model), torch.equal(predictions(model), plain)])

    for share in (0.3, 0.7):
        for each in patchers.values():
            each.partially_load(CPU, share * each.model_size() - each.loaded_size())
        note(f"{share:.0%}")
    for each in patchers.values():
        each.partially_unload(CPU, each.model_size() // 4)
    note("a quarter less")
    for each in patchers.values():
        each.partially_load(CPU, 1e32)
    note("whole")
    for each in patchers.values():
        each.detach()
    note("away")
    found["weights stay"] = all(same(each, weights[name]) for name, each in model.state_dict().items())
    found["in eight bits"] = [float8.is_float8(unet) for unet in (model.video_unet, model.audio_unet)]
    return found


def same(one, other):
    """To the bit, of any dtype."""
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def patched():
    """Weights that ComfyUI changes while they are loaded."""
    model = joint_model(open_gates=True)
    plain, weights = predictions(model), {name: each.clone() for name, each in model.state_dict().items()}
    patchers, results = patchers_of(model, CPU), []
    for name, each in patchers.items():
        parts = {f"component.{key}": each for key, each in getattr(model, name).state_dict().items() if each.ndim > 1}
        each.add_patches({key: (0.01 * torch.ones_like(weight),) for key, weight in parts.items()})
    for share in (1e32, 0.4):
        for each in patchers.values():
            each.partially_load(CPU, share * each.model_size())
        results.append(predictions(model))
        for each in patchers.values():
            each.detach()
    return {
        "in part as whole": torch.equal(*results),
        "changed": not torch.equal(results[0], plain),
        "weights stay": all(torch.equal(each, weights[name]) for name, each in model.state_dict().items()),
    }


def on_a_gpu():
    """Tensors without numbers: every operation still checks that what it is given is on one device."""
    model = joint_model(open_gates=True)
    patchers = patchers_of(model, GPU)
    total = sum(bytes_of(each.model) for each in patchers.values())
    room = manager.minimum_inference_memory() + total / 2

    def free(device=None, torch_free_too=False):
        left = room - bytes_of(model, GPU)
        return (left, 0) if torch_free_too else left

    manager.get_free_memory, manager.vram_state = free, manager.VRAMState.NORMAL_VRAM
    manager.load_models_gpu(list(patchers.values()))
    loaded = {name: [each.loaded_size(), bytes_of(each.model, GPU)] for name, each in patchers.items()}
    before = [each.device for each in model.parameters()]
    given = [each.map(lambda tensor: tensor.to(GPU)) if hasattr(each, "map") else each.to(GPU) for each in inputs()]
    with torch.no_grad():
        made = model(*given, conditioning().to(GPU))
    found = {
        "loaded": loaded,
        "total": total,
        "made on": [made.video.device.type, made.audio.device.type],
        "weights stay": [each.device for each in model.parameters()] == before,
    }
    manager.free_memory(1e32, GPU)
    return found | {"after": bytes_of(model, GPU)}


def without_numbers():
    """What stands in the way of tensors without numbers and of a GPU that is not there."""

    def moved(self, function, recurse=True):
        for child in self.children() if recurse else ():
            child._apply(function)
        for name, each in self._parameters.items():
            self._parameters[name] = None if each is None else nn.Parameter(function(each.detach()), False)
        for name, each in self._buffers.items():
            self._buffers[name] = None if each is None else function(each)
        return self

    def all_full(isolated, batch, device):
        return torch.arange(batch, device=device), torch.arange(0, device=device)

    nn.Module._apply = moved
    sys.modules["jointdit.models.model"].split_isolated = all_full
    torch.cuda.synchronize = lambda *_: None
    with FakeTensorMode(allow_non_fake_inputs=True):
        return on_a_gpu()


print(
    json.dumps(
        {
            "in parts": in_parts(),
            "eight bits in parts": in_parts(eight_bits=True),
            "patched": patched(),
            "on a GPU": without_numbers(),
        }
    )
)
