"""ComfyUI's own command line runs the shipped workflows on a real server, from the page's format and from the API's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from comfy_pack import ROOT
from comfyui_process import Server

from jointdit.media import read_clip

SECONDS = 600


@pytest.mark.parametrize("folder", ["workflows", "workflows/api"])
def test_comfy_run_makes_the_clip_of_the_first_workflow(comfyui: Server, tmp_path, folder):
    before = clips(comfyui)
    address = urlsplit(comfyui.url)
    found = subprocess.run(
        [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--json", "run", "--wait", "--timeout", str(SECONDS)]
        + ["--host", str(address.hostname), "--port", str(address.port)]
        + ["--workflow", str(ROOT / folder / "image_to_sounding_video.json")],
        env=os.environ | {"HOME": str(tmp_path), "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    print(json.dumps(json.loads(found.stdout), indent=1))
    (path,) = clips(comfyui) - before
    clip = read_clip(path)
    print(clip.frames.shape)


def clips(comfyui: Server) -> set[Path]:
    """What the server's Save Video nodes wrote."""
    return set((comfyui.base / "output").rglob("*.mp4"))
