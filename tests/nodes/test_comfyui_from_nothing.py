"""A real ComfyUI without any model: what the page offers and the nodes say leads to a clip of both experts.

The hub is on this machine. It serves small experts in place of the published ones. The single file is for the page's
offer alone: one that loads is of the published size.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.request

import pytest
from comfy_pack import ROOT
from comfyui_process import COMFYUI, MISSING, PACK, Server
from hub_stand_in import Hub
from tiny_models import write_experts

from jointdit import InputError
from jointdit.checkpoints.published import MODELS
from jointdit.comfyui.client import ComfyClient
from jointdit.comfyui.workflow import read_workflow, set_input
from jointdit.media import read_clip

pytestmark = pytest.mark.skipif(bool(MISSING), reason=str(MISSING))
VIDEO, AUDIO = MODELS["svd-xt"], MODELS["audioldm2"]
WORKFLOW = "real_experts.json"
FETCH_SECONDS = 600


@pytest.fixture
def hub(tmp_path):
    """What is published of both experts, small."""
    repositories = {}
    for model, folder in zip((VIDEO, AUDIO), write_experts(tmp_path / "published"), strict=True):
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        repositories[model.repository] = files | {"model_index.json": b"{}"}
    repositories[AUDIO.repository]["feature_extractor/preprocessor_config.json"] = b"{}"
    repositories[VIDEO.repository][VIDEO.single_file] = b"of another size"
    with Hub(repositories) as hub:
        yield hub


@pytest.fixture
def bare(tmp_path):
    """A ComfyUI with this extension, a picture, and no model."""
    base = tmp_path / "comfyui"
    for name in ("custom_nodes", "models", "input"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / PACK).symlink_to(ROOT)
    shutil.copy(COMFYUI / "input" / "example.png", base / "input")
    server = Server(base)
    yield server
    server.stop()


def choices(server, name):
    known = server.json("/object_info/JointDiTLoadExperts")["JointDiTLoadExperts"]
    return known["input"]["required"][name][1]["options"]


def test_from_no_model_to_a_clip_of_both_experts(bare, hub, tmp_path):
    graph, client, models = (
        read_workflow(ROOT / "workflows" / "api" / WORKFLOW),
        ComfyClient(bare.url),
        bare.base / "models",
    )
    assert not [path for path in models.rglob("*") if path.is_file()]
    with pytest.raises(InputError) as refused:
        client.run(graph, lambda *progress: None)
    commands = re.findall(r'(cd "[^"]+" && "[^"]+" -m jointdit fetch-models [^"]+"[^"]+")', str(refused.value))
    single, audio = commands
    assert "svd-xt --single-file" in single and f'"{models / "checkpoints"}"' in single
    assert "audioldm2 --to" in audio and f'"{models / "diffusers"}"' in audio

    def fetch(command):
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_TOKEN")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        subprocess.run(["/bin/sh", "-c", f"{command} --yes"], env=environment, check=True, timeout=FETCH_SECONDS)

    fetch(audio)
    for node in json.loads((ROOT / "workflows" / WORKFLOW).read_text())["nodes"]:
        for offered in node["properties"].get("models", []):
            if offered["name"] == VIDEO.single_file:  # a click on Download asks for this address
                place = models / offered["directory"] / offered["name"]
                place.parent.mkdir(exist_ok=True)
                urllib.request.urlretrieve(offered["url"].replace("https://huggingface.co", hub.url), place)
    assert choices(bare, "video_expert") == [VIDEO.single_file] and choices(bare, "audio_expert") == [AUDIO.name]
    with pytest.raises(InputError, match=f"{VIDEO.single_file}: not a readable"):
        client.run(graph, lambda *progress: None)

    fetch(single.replace("--single-file ", "").replace(str(models / "checkpoints"), str(models / "diffusers")))
    assert sorted(path.name for path in (models / "diffusers").iterdir()) == sorted([VIDEO.name, AUDIO.name])
    small = {"width": 48, "height": 40, "frames": 4, "fps": 8.0, "window": 4, "steps": 2}
    for name, value in ({"video_expert": VIDEO.name} | small).items():
        set_input(graph, f"{name}={value}")
    outputs, refusals = client.run(graph, lambda *progress: None)
    assert not refusals
    (path,) = client.download(outputs, tmp_path / "clips")
    clip = read_clip(path)
    assert clip.frames.shape == (4, 40, 48, 3) and clip.audio.shape[1] == round(0.5 * clip.sample_rate)
