"""ComfyUI's own command line runs a shipped workflow on a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

from comfy_pack import ROOT

from jointdit.media import read_clip

SECONDS = 600


def comfy_run(server, home, workflow):
    """What `comfy run` reports. home: where it keeps its settings; it sends nothing home."""
    address = urlsplit(server.url)
    command = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--json", "run", "--wait"]
    command += ["--workflow", str(ROOT / workflow), "--timeout", str(SECONDS)]
    done = subprocess.run(
        [*command, "--host", str(address.hostname), "--port", str(address.port)],
        env=os.environ | {"HOME": str(home), "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["data"]


def test_comfy_run_takes_both_formats_of_a_workflow_for_the_same_graph(comfyui, tmp_path):
    page = comfy_run(comfyui, tmp_path, "workflows/image_to_sounding_video.json")
    (saved,) = (parse_qs(urlsplit(address).query)["filename"][0] for address in page["outputs"])
    clip = read_clip(comfyui.base / "output" / "jointdit" / saved)
    assert clip.frames.shape == (20, 128, 128, 3) and clip.audio is not None
    api = comfy_run(comfyui, tmp_path, "workflows/api/image_to_sounding_video.json")
    assert set(api["cached_node_ids"]) == set(page["executed_node_ids"]), "nothing is made twice"
    assert api["outputs"] == page["outputs"]
