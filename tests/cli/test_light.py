"""What a clip's command imports: nothing that it does not use, and nothing is lost for what comes after it."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {  # where they are installed, diffusers and transformers import them
    "bitsandbytes",
    "matplotlib",
    "networkx",
    "peft",
    "scipy",
    "sklearn",
    "torch._dynamo.symbolic_convert",
    "torch._inductor",
    "transformers.models.clap.modeling_clap",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.t5.modeling_t5",
}
CLIP = """
import json, sys
sys.argv = ["jointdit", "generate", "--quiet", "--steps", "1", "--frames", "2", "--seed", "1", "-o", sys.argv[1]]
from jointdit.cli import main
status = main()
loaded = [name for name, module in sys.modules.items() if module is not None]

import torch
import torch._dynamo.config
from torch._dynamo.utils import counters

@torch.compile(backend="eager")
def doubled(x):
    return 2 * x

same_value = doubled(torch.ones(1)).item() == 2
same_module = torch._dynamo is sys.modules["torch._dynamo"] and torch._dynamo.utils.counters is counters
print(json.dumps([status, loaded, same_value and same_module, counters["stats"]["unique_graphs"]]))
"""


def run(code: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    ).stdout.splitlines()[-1]


def test_importing_the_package_imports_nothing_heavy():
    loaded = json.loads(run("import jointdit, json, sys; print(json.dumps(list(sys.modules)))"))
    assert not {"torch", "numpy", "av", "diffusers", "transformers"} & set(loaded)


def test_a_clip_imports_what_it_uses_and_the_compiler_can_still_be_had(tmp_path):
    status, loaded, compiled, graphs = json.loads(run(CLIP, str(tmp_path / "clip.mp4")))
    assert status == 0 and (tmp_path / "clip.mp4").exists()
    assert "diffusers.models.unets.unet_spatio_temporal_condition" in loaded
    assert not HEAVY & set(loaded)
    assert compiled and graphs == 1
