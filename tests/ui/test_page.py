"""The page in a real browser, and its named endpoint."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from sounding_videos import video

from jointdit.media import read_audio
from jointdit.media.recipe import read_recipe

pytest.importorskip("gradio", reason="no gradio; pip install '.[test]'")
ROOT = Path(__file__).parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PATIENCE = 100  # seconds


@pytest.fixture(scope="module")
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jointdit", "ui", "--port", str(port), "--device", "cpu", "--upload-limit", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as it:
        assert it.stdout is not None
        said = it.stdout.readline()
        assert (found := re.match(rf"(http://127\.0\.0\.1:{port}/) \(Ctrl-C ends it\)", said)), said
        yield found[1]
        it.send_signal(signal.SIGINT)
        assert it.wait(60) in (0, 130)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install '.[test]'")
    if BROWSER is None:
        pytest.skip("no chromium on PATH")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=BROWSER, args=["--disable-gpu", "--no-sandbox"])


@pytest.fixture
def open_page(browser, address):
    """Opens the page once more; `page.elsewhere` are addresses of other machines that it asked for."""
    contexts = []

    def open_(width=1300):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.elsewhere = []
        page.on(
            "request", lambda it: None if it.url.startswith((address, "data:", "blob:")) else page.elsewhere.append(it)
        )
        page.goto(address)
        page.wait_for_selector("#generate")
        page.get_by_text("Sampling").click()
        fill(page, "steps", "3")
        return page

    yield open_
    for context in contexts:
        context.close()


def fill(page, field, text):
    """Types until it stays: a field that was unfolded a moment ago is emptied while the page still builds it."""
    box = page.locator(f"#{field} textarea")
    while box.input_value() != text:
        box.fill(text)
        page.wait_for_timeout(300)


def test_a_clip_is_made_in_the_page_and_again_in_another_tab(open_page):
    first, second = open_page(), open_page()
    for page in (first, second):
        fill(page, "prompt", "a hammer strikes")
        fill(page, "seed", "7")
        page.click("#generate")
    for page in (first, second):  # one waits for the other
        page.wait_for_selector("#clip video")
        page.wait_for_function("document.querySelector('#clip video').readyState >= 2")
        assert page.locator("#clip video").evaluate("video => [video.videoWidth, video.videoHeight]") == [128, 128]
        assert "20 frames" in page.locator("#status").inner_text() and "seed 7" in page.locator("#status").inner_text()
        assert page.locator("#gallery img").count() == 1, "each tab has its own clips"
        heights = [page.locator(f"#gallery{part}").bounding_box()["height"] for part in ("", " img")]
        assert heights[0] < 1.5 * heights[1], "and no empty place for more"
        assert page.elsewhere == [], "nothing is loaded from other machines"
        page.wait_for_selector("#generate:enabled")


def test_what_cannot_be_used_is_said_in_one_line_and_the_page_works_on(open_page):
    page = open_page()
    fill(page, "seed", "-3")
    page.click("#generate")
    page.locator("#status", has_text="Seed -3: must be whole numbers").wait_for()
    fill(page, "seed", "1")
    page.get_by_text("Clip", exact=True).first.click()
    fill(page, "size", "100x128")
    page.click("#generate")
    page.locator("#status", has_text="size is 100x128").wait_for()
    fill(page, "size", "128x128")
    page.click("#generate")
    page.wait_for_selector("#clip video")


def test_a_file_that_is_no_picture_is_said_by_its_name_and_the_page_works_on(open_page, tmp_path):
    page = open_page()
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    page.locator("#picture .icon-button-wrapper button").last.click()  # takes the picture away
    page.locator("#picture input[type=file]").set_input_files(bad)
    page.click("#generate:enabled")
    page.locator("#status b", has_text="bad.png: not a picture").wait_for()
    assert "/" not in page.locator("#status b").inner_text(), "not where the page keeps it"
    page.get_by_text("heavy rain").first.click()
    page.wait_for_function("document.querySelector('#picture img')?.src.includes('example')")
    page.click("#generate:enabled")
    page.wait_for_selector("#clip video")


def test_a_narrow_window_shows_what_is_made_and_the_scales_of_a_mode(open_page):
    page = open_page(width=400)
    assert not page.locator("#plot").is_visible() and not page.locator("#gallery").is_visible(), "nothing is there yet"
    assert not page.locator("#video-scale").is_visible()
    page.locator("#guidance").get_by_text("joint-cfg", exact=True).click()
    page.wait_for_selector("#video-joint-scale", state="visible")
    assert page.locator("#video-scale-start").is_visible() and not page.locator("#video-scale").is_visible()
    fill(page, "audio-joint-scale", "2.5")
    fill(page, "steps", "60")
    page.click("#generate")
    page.wait_for_selector("#status img")
    within = "document.querySelector('#status progress').getBoundingClientRect()"
    page.wait_for_function(f"{within}.top >= 0 && {within}.bottom <= window.innerHeight")
    page.click("#cancel")
    page.locator("#status", has_text="Cancelled").wait_for()
    fill(page, "steps", "2")
    page.click("#generate")
    page.locator("#command", has_text="--audio-joint-scale 2.5").wait_for()
    assert page.locator("#plot").is_visible() and page.locator("#graph").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400, "nothing is cut at the side"


def test_cancel_stops_the_work_and_the_next_clip_is_made(open_page):
    page = open_page()
    fill(page, "steps", "400")
    page.click("#generate")
    page.wait_for_selector("#status img")
    page.click("#cancel")
    page.locator("#status", has_text="Cancelled").wait_for()
    fill(page, "steps", "2")
    page.click("#generate")
    page.wait_for_selector("#clip video")


def test_a_tab_that_is_closed_in_mid_work_keeps_nobody_waiting(open_page):
    page = open_page()
    fill(page, "steps", "999")
    page.click("#generate")
    page.wait_for_selector("#status img")
    page.close()
    page = open_page()
    page.click("#generate")
    page.wait_for_selector("#clip video")


def test_a_tab_that_is_closed_before_it_hears_of_its_click_keeps_nobody_waiting(address):
    client_module = pytest.importorskip("gradio_client", reason="no gradio_client; pip install '.[test]'")
    config = json.load(urllib.request.urlopen(f"{address}config"))
    parts = {each["id"]: each for each in config["components"]}
    event = next(each for each in config["dependencies"] if each["api_name"] == "generate")
    values = {parts[number]["props"]["label"]: parts[number]["props"].get("value") for number in event["inputs"][:-1]}
    values["Steps"] = "999"
    join = {"data": [*values.values(), []], "fn_index": event["id"], "session_hash": "closed"}
    kind = {"Content-Type": "application/json"}
    with urllib.request.urlopen(f"{address}gradio_api/heartbeat/closed"):
        request = urllib.request.Request(f"{address}gradio_api/queue/join", json.dumps(join).encode(), kind)
        assert "event_id" in json.load(urllib.request.urlopen(request))
    photo = client_module.handle_file(ROOT / "jointdit" / "assets" / "sample.jpg")
    client = client_module.Client(address, verbose=False)
    client.submit(image=photo, steps="2", api_name="/generate").result(PATIENCE)


def test_an_example_fills_picture_and_prompt(open_page):
    page = open_page()
    page.get_by_text("heavy rain").first.click()
    page.wait_for_function("document.querySelector('#prompt textarea').value == 'heavy rain'")
    page.wait_for_function("document.querySelector('#picture img').src.includes('example')")


def test_joint_blocks_are_trained_in_the_page_and_used_in_it(open_page, tmp_path):
    for number in range(4):
        video(tmp_path / "videos" / "noise" / f"{number}.mp4", 1.7)
    page = open_page()
    page.get_by_role("tab", name="Train").click()
    fill(page, "videos", str(tmp_path / "videos"))
    fill(page, "output", str(tmp_path / "run"))
    page.locator("#training-steps input").fill("2")
    page.locator("#training-batch input").fill("2")
    page.click("#train")
    for shown in ("#loss canvas, #loss svg", "#samples video, #samples img"):
        page.locator(shown).first.wait_for(timeout=4000 * PATIENCE)
    page.get_by_role("tab", name="Generate").click()
    page.get_by_role("button", name="Model").first.click()  # the page has no folded field before
    blocks = tmp_path / "run" / "train" / "joint_blocks.safetensors"
    filled = "document.querySelector('#joint textarea, #joint input')?.value"
    page.wait_for_function(f"{filled} == {json.dumps(str(blocks))}", timeout=4000 * PATIENCE)
    assert blocks.is_file()
    page.click("#generate")
    page.locator("#command", has_text="--joint").wait_for()


def test_a_file_over_the_limit_is_refused(address):
    edge = "----edge"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="big.png"\r\n\r\n'.encode()
    for megabytes, accepted in ((0.5, True), (2, False)):
        body = head + os.urandom(int(megabytes * 2**20)) + f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        request = urllib.request.Request(f"{address}gradio_api/upload", body, kind)
        if accepted:
            with urllib.request.urlopen(request) as reply:
                assert reply.status == 200
        else:
            with pytest.raises(urllib.error.HTTPError, match="413"):
                urllib.request.urlopen(request)


def test_the_endpoint_makes_the_same_clip_without_a_browser(address):
    client_module = pytest.importorskip("gradio_client", reason="no gradio_client; pip install '.[test]'")
    client = client_module.Client(address, verbose=False)
    assert "/generate" in client.view_api(return_format="dict")["named_endpoints"]
    photo = client_module.handle_file(ROOT / "jointdit" / "assets" / "sample.jpg")
    results = [client.predict(image=photo, seed="4", steps="2", api_name="/generate") for _ in range(2)]
    for clip, sound, graph, command, plot, said, *_ in results:
        assert read_recipe(clip) == {"model": "tiny", "seed": "4", "steps": "2"}
        assert len(read_audio(sound)[0][0]) == 25600 and "JointDiTSample" in Path(graph).read_text()
        assert "--seed 4" in command and Path(plot).suffix in (".png", ".webp") and "20 frames" in said
    one, other = (Path(result[0]).read_bytes() for result in results)
    assert one == other
    with pytest.raises(client_module.exceptions.AppError, match="Steps many: must be a whole number from 1 to 999"):
        client.predict(image=photo, steps="many", api_name="/generate")
    with urllib.request.urlopen(address) as reply:
        assert reply.status == 200
