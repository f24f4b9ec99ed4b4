"""A real ComfyUI of the tests' own, with this extension; found by COMFYUI_PATH or where comfy-cli installs it.

Its Python is COMFYUI_PYTHON, or a virtual environment in or beside it; it needs ComfyUI's requirements and ours, and
those of the extra `evaluate` for the sync report.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMFYUI = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy" / "ComfyUI"))
PYTHONS = [COMFYUI / ".venv", COMFYUI / "venv", COMFYUI.parent / "venv", COMFYUI.parent / ".venv"]
PYTHON = os.environ.get("COMFYUI_PYTHON") or next(
    (str(each / "bin" / "python") for each in PYTHONS if (each / "bin" / "python").is_file()), None
)
MISSING = (
    None
    if (COMFYUI / "main.py").is_file() and PYTHON
    else f"no ComfyUI with a Python of its own in {COMFYUI}; set COMFYUI_PATH and COMFYUI_PYTHON"
)
PACK = "ComfyUI-JointDiT"
START_SECONDS, STOP_SECONDS = 600, 60


class Server:
    """A running ComfyUI whose folders are in `base`."""

    def __init__(self, base: Path, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self.base, self.log = f"http://127.0.0.1:{port}", base, base / "log.txt"
        command = [PYTHON, str(COMFYUI / "main.py"), "--cpu", "--port", str(port), "--disable-auto-launch"]
        command += ["--base-directory", str(base), "--database-url", f"sqlite:///{base}/comfyui.db"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}  # beside other work, more threads only wait for each other
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--disable-api-nodes", *options],
                cwd=COMFYUI,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(1)

    def answers(self) -> bool:
        try:
            return bool(self.get("/system_stats"))
        except OSError:
            return False

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            return reply.read()

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def resident(self) -> int:
        """Bytes of memory in use."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()


def furnish(base: Path) -> None:
    """ComfyUI's folders with this extension, small models (experts, a whole one, "small", what was trained for it,
    "trained", and those that finish a clip), and as input what the shipped workflows do not bring: a picture, and
    videos in a folder of a caption."""
    from finishing_models import write_finishing_models  # heavy: not for every test session
    from tiny_models import write_experts, write_trained

    from jointdit import Clip, JointDiTPipeline
    from jointdit.synthetic import render_scene

    for name in ("custom_nodes", "models/jointdit", "input"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / PACK).symlink_to(ROOT)
    shutil.copy(COMFYUI / "input" / "example.png", base / "input")
    for seed, name in enumerate(("videos/a ball/0", "videos/a ball/1", "videos/a ball/2")):
        scene = render_scene(seed, effect="ball")
        path = base / "input" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        Clip(scene.frames, scene.fps, scene.audio[None], scene.sample_rate).save(path)
    write_finishing_models(base / "models")
    video, audio = write_experts(base / "models" / "diffusers")
    pipe, folder = JointDiTPipeline.from_experts(video, audio), base / "models" / "jointdit"
    pipe.save_pretrained(folder / "small")
    write_trained(pipe, folder / "trained.safetensors", folder / "trained")
    video.rename(video.with_name("stable-video-diffusion-img2vid-xt"))
