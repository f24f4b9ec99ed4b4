"""A browser plays what `write_video` writes: the right size, duration and colours, and the sound at its time."""

from __future__ import annotations

import http.server
import json
import queue
import shutil
import subprocess
import threading
from fractions import Fraction

import numpy as np
import pytest

from jointdit.media import Clip

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
COLOUR = (200, 60, 90)
IMPULSE = 0.5  # s
PAGE = """<!doctype html><script>
async function look() {
  const video = document.createElement("video");
  const until = name => new Promise((done, failed) => {
    video.addEventListener(name, done, {once: true});
    video.addEventListener("error", () => failed(video.error.message), {once: true});
  });
  video.muted = true;
  video.src = "/clip";
  await until("canplaythrough");
  const shown = new Promise(done => video.requestVideoFrameCallback(done));
  video.currentTime = video.duration / 2;
  await until("seeked");
  await shown;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0);
  const colour = pen.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data;
  const file = await (await fetch("/clip")).arrayBuffer();
  const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(file);
  const levels = sound.getChannelData(0).map(Math.abs);
  return {width: video.videoWidth, height: video.videoHeight, duration: video.duration,
          colour: Array.from(colour).slice(0, 3), sound_duration: sound.duration, channels: sound.numberOfChannels,
          impulse: levels.indexOf(levels.reduce((a, b) => Math.max(a, b))) / sound.sampleRate};
}
look().catch(error => ({error: String(error)}))
      .then(report => fetch("/report", {method: "POST", body: JSON.stringify(report)}));
</script>"""


def ask_browser(path, sample_rate, profile):
    """What the browser says of the video at `path`, from a page served on this machine."""
    reports = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page = PAGE.replace("RATE", str(sample_rate)).encode()
            kind, body = (
                (f"video/{path.suffix[1:]}", path.read_bytes()) if self.path == "/clip" else ("text/html", page)
            )
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return reports.get(timeout=60)
        finally:
            browser.terminate()
            browser.wait(timeout=30)
            server.shutdown()


@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize(
    ("fps", "sample_rate", "channels"), [("25/2", 16000, 1), ("24000/1001", 48000, 2), ("7", 44100, 2)]
)
def test_a_browser_shows_and_sounds_the_clip(tmp_path, suffix, fps, sample_rate, channels):
    seconds = 20 / Fraction(fps)
    audio = np.zeros((channels, round(seconds * sample_rate)), np.float32)
    audio[:, round(IMPULSE * sample_rate)] = 0.9
    clip = Clip(np.full((20, 64, 96, 3), COLOUR, np.uint8), Fraction(fps), audio, sample_rate)
    path = tmp_path / f"clip{suffix}"
    clip.save(path)

    report = ask_browser(path, sample_rate, tmp_path / "profile")
    assert "error" not in report, report
    assert (report["width"], report["height"], report["channels"]) == (96, 64, channels)
    assert report["duration"] == pytest.approx(float(seconds), abs=0.01)
    assert report["sound_duration"] == pytest.approx(float(seconds), abs=0.003)
    assert report["impulse"] == pytest.approx(IMPULSE, abs=0.002)
    assert report["colour"] == pytest.approx(COLOUR, abs=4)
