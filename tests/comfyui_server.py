"""A real ComfyUI with this extension, over its API; found by COMFYUI_PATH or where comfy-cli installs it.

Run by name, `pytest tests/comfyui_server.py`, until it has passed in a clean clone.


Its Python is COMFYUI_PYTHON, or a virtual environment in or beside it; it needs ComfyUI's requirements and ours.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from fractions import Fraction
from pathlib import Path

import pytest
from comfy_pack import ROOT, load_pack, nodes
from tiny_models import write_experts

from jointdit import InputError, JointDiTPipeline
from jointdit.cli import main
from jointdit.comfy_client import ComfyClient
from jointdit.media import read_clip
from jointdit.workflow import read_workflow, set_input

COMFYUI = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy" / "ComfyUI"))
PYTHONS = [COMFYUI / ".venv", COMFYUI / "venv", COMFYUI.parent / "venv", COMFYUI.parent / ".venv"]
PYTHON = os.environ.get("COMFYUI_PYTHON") or next(
    (str(each / "bin" / "python") for each in PYTHONS if (each / "bin" / "python").is_file()), None
)
PACK = "ComfyUI-JointDiT"
API = ROOT / "workflows" / "api"
SMALL = {"width": 48, "height": 40, "frames": 4, "fps": 8.0, "steps": 2}  # for the models of the tests
START_SECONDS, RUN_SECONDS = 600, 600

pytestmark = pytest.mark.skipif(
    not (COMFYUI / "main.py").is_file() or PYTHON is None,
    reason=f"no ComfyUI with a Python of its own in {COMFYUI}; set COMFYUI_PATH and COMFYUI_PYTHON",
)


class Server:
    """A ComfyUI of the tests' own: its folders are in `base`."""

    def __init__(self, base: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self.base, self.log = f"http://127.0.0.1:{port}", base, base / "log.txt"
        options = ["--cpu", "--port", str(port), "--disable-auto-launch", "--base-directory", str(base)]
        options += ["--database-url", f"sqlite:///{base}/comfyui.db", "--disable-api-nodes"]
        with self.log.open("w") as log:
            command = [PYTHON, str(COMFYUI / "main.py"), *options]
            self.process = subprocess.Popen(command, cwd=COMFYUI, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"ComfyUI did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(1)

    def answers(self) -> bool:
        try:
            return bool(self.get("/system_stats"))
        except OSError:
            return False

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            return reply.read()

    def json(self, path: str):
        return json.loads(self.get(path))

    def resident(self) -> int:
        """Bytes of memory in use."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    for name in ("custom_nodes", "models/jointdit", "input"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / PACK).symlink_to(ROOT)
    shutil.copy(COMFYUI / "input" / "example.png", base / "input")
    video, audio = write_experts(base / "models" / "diffusers")
    JointDiTPipeline.from_experts(video, audio).save_pretrained(base / "models" / "jointdit" / "small")
    video.rename(video.with_name("stable-video-diffusion-img2vid-xt"))
    running = Server(base)
    yield running
    running.process.terminate()
    running.process.wait(60)


def graph(name="image_to_sounding_video", **changes):
    found = read_workflow(API / f"{name}.json")
    for key, value in ({"model": "small"} | SMALL | changes).items():
        set_input(found, f"{key}={value}")
    return found


def run_workflow(server, tmp_path, name, *changes):
    options = [f"--set={change}" for change in changes]
    code = main(["run-workflow", str(API / f"{name}.json"), "--server", server.url, "--out", str(tmp_path), *options])
    assert code == 0
    return [read_clip(path) for path in sorted(tmp_path.glob("*.mp4"))]


def test_the_pack_loads_without_a_warning(server):
    log = server.log.read_text()
    assert "IMPORT FAILED" not in log and "comfy_entrypoint" not in log
    assert not [line for line in log.splitlines() if "warn" in line.lower() and ("jointdit" in line.lower())]


def test_the_server_knows_every_node_as_its_schema_says(server):
    load_pack()
    for identity, node in nodes().items():
        info, schema = server.json(f"/object_info/{identity}")[identity], node.define_schema()
        assert info["display_name"] == schema.display_name and info["category"] == schema.category
        assert info["search_aliases"] == schema.search_aliases and info["output_name"]
        listed = [*info["input"].get("required", {}), *info["input"].get("optional", {})]
        assert sorted(listed) == sorted(each.id for each in schema.inputs)
        assert info["output"] == [each.io_type for each in schema.outputs]
        assert info["output_tooltips"] == [each.tooltip for each in schema.outputs]
        assert info["python_module"].endswith(PACK)


@pytest.mark.parametrize(("name", "clips"), [("image_to_sounding_video", 1), ("prompt_with_and_without_jointcfg", 2)])
def test_workflows_of_the_bundled_model_run_as_they_are(server, tmp_path, name, clips):
    found = run_workflow(server, tmp_path, name)
    assert len(found) == clips
    for clip in found:
        assert clip.frames.shape == (20, 128, 128, 3) and clip.fps == Fraction(25, 2)
        assert clip.audio.shape[1] == round(1.6 * clip.sample_rate) and abs(clip.audio).max() > 0.01
        assert (clip.frames[0] != clip.frames[-1]).any()


def test_the_workflow_of_the_real_experts_runs_on_their_layout(server, tmp_path):
    (clip,) = run_workflow(server, tmp_path, "real_experts", *(f"{key}={value}" for key, value in SMALL.items()))
    assert clip.frames.shape == (4, 40, 48, 3) and clip.fps == 8
    assert clip.audio.shape[1] == round(0.5 * clip.sample_rate)


def test_memory_stays_flat_over_twenty_runs(server):
    client = ComfyClient(server.url)
    used = []
    for seed in range(20):
        client.run(graph(seed=seed), lambda *progress: None)
        used.append(server.resident())
    assert max(used[10:]) < used[5] + 60 * 2**20, [round(each / 2**20) for each in used]


def test_an_interrupt_cancels_the_job_and_the_next_one_runs(server):
    client, reports = ComfyClient(server.url), []
    long = graph(steps=900, seed=100)

    def stop(*progress):
        reports.append(progress)
        if "Sample" in progress[0] and progress[1] >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.run(long, stop)
    assert reports[-1][1] < 50
    job = next(iter(server.json("/api/jobs?sort_order=desc&limit=1")["jobs"]))
    for _ in range(100):
        job = server.json(f"/api/jobs/{job['id']}")
        if job["status"] == "cancelled":
            break
        time.sleep(0.2)
    assert job["status"] == "cancelled"
    outputs, refusals = client.run(graph(seed=101), lambda *progress: None)
    assert outputs and not refusals


def test_two_clients_get_their_own_results(server, tmp_path):
    found = {}

    def use(frames):
        client = ComfyClient(server.url)
        outputs, _ = client.run(graph(frames=frames, seed=frames), lambda *progress: None)
        (found[frames],) = client.download(outputs, tmp_path / str(frames))

    threads = [threading.Thread(target=use, args=(frames,)) for frames in (4, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(RUN_SECONDS)
    assert {frames: len(read_clip(path).frames) for frames, path in found.items()} == {4: 4, 6: 6}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 50}, "width is 50.*use 48"),
        ({"frames": 1}, "frames is 1"),
        ({"model": "nope"}, "'nope' is not there.*models/jointdit"),
        ({"steps": 0}, "smaller than min of 1: steps"),
        ({"sampler": "magic"}, "sampler: 'magic' not in"),
        ({"image": "none.png"}, "none.png"),
        ({"chunk_size": 4, "overlap": 4}, "overlap is 4"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_inputs_are_refused_in_words_that_help(server, changes, message):
    with pytest.raises(InputError, match=message):
        ComfyClient(server.url).run(graph(**changes), lambda *progress: None)


def test_templates_thumbnails_and_help_pages_are_served(server):
    names = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert sorted(server.json("/api/workflow_templates")[PACK]) == names
    for name in names:
        assert server.json(f"/api/workflow_templates/{PACK}/{name}.json")["nodes"]
        assert server.get(f"/api/workflow_templates/{PACK}/{name}.jpg")[:2] == b"\xff\xd8"
    for path in (ROOT / "web" / "docs").iterdir():
        assert server.get(f"/extensions/{PACK}/docs/{path.name}") == path.read_bytes()
