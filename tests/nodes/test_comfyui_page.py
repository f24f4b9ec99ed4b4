"""The extension in ComfyUI's own page, in a headless Chromium: what a user sees and gets after opening a template."""

from __future__ import annotations

import itertools
import json
import shutil
from contextlib import suppress

import numpy as np
import pytest
from blueprints import NAME
from comfyui_process import PACK, ROOT

from jointdit.comfyui.workflow import api_format

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install '.[test]'")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")

PATIENCE = 600_000  # milliseconds for what the page or the server has to do
TEMPLATES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
# Where each node is drawn, its title included, and the room that its widgets need.
BOXES = """() => app.graph.nodes.map(node => {
  const [x, y, width, height] = [...node.pos, ...node.size];
  const box = [x, y - LiteGraph.NODE_TITLE_HEIGHT, x + width, y + height];
  return {type: node.type, box, size: [...node.size], needed: [...node.computeSize()]};
})"""
SAVER = "app.graph.nodes.find(node => node.type === 'SaveVideo')"
SAMPLER = "app.graph.nodes.find(node => node.type === 'JointDiTSample')"
# Once the note is drawn: its letters as they are on the screen, in pixels, the height of its text, and its room for it.
NOTE = """() => {
  const note = app.graph.nodes.find(node => node.type === "MarkdownNote");
  const text = note.widgets.find(widget => widget.element).element.querySelector(".tiptap");
  const letters = parseFloat(getComputedStyle(text).fontSize) * app.canvas.ds.scale;
  return text.clientHeight && [letters, text.scrollHeight, text.clientHeight];
}"""
READABLE = 10  # pixels
PIXELS = f"""() => {{
  const pen = new OffscreenCanvas(32, 32).getContext("2d");
  pen.drawImage({SAMPLER}.imgs[0], 0, 0, 32, 32);
  return [...pen.getImageData(0, 0, 32, 32).data].filter((_, index) => index % 4 < 3);
}}"""


@pytest.fixture(scope="module")
def page(comfyui):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--disable-gpu"], timeout=PATIENCE)
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def open_template(page, comfyui, name):
    """As a click in the template browser does."""
    page.goto(f"{comfyui.url}/?template={name}&source={PACK}")
    count = len(json.loads((ROOT / "workflows" / f"{name}.json").read_text())["nodes"])
    page.wait_for_function(f"window.app?.graph?.nodes.length === {count}")
    page.locator("#splash-loader").wait_for(state="hidden")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_shows_all_its_nodes_beside_each_other_and_whole(page, comfyui, name):
    open_template(page, comfyui, name)
    shown = page.evaluate(BOXES)
    page_nodes = json.loads((ROOT / "workflows" / f"{name}.json").read_text())["nodes"]
    assert sorted(node["type"] for node in shown) == sorted(node["type"] for node in page_nodes)
    for node in shown:
        # Load Video with its picture asks for a little more than its width, whatever that is.
        assert node["size"][0] >= node["needed"][0] or node["type"] == "LoadVideo", node
        assert node["size"][1] >= node["needed"][1], node
    for one, other in itertools.combinations(shown, 2):
        (left, top, right, bottom), (x, y, u, v) = one["box"], other["box"]
        assert right <= x or u <= left or bottom <= y or v <= top, (one["type"], other["type"])
    letters, needed, room = page.wait_for_function(NOTE).json_value()
    assert letters >= READABLE and needed <= room, (letters, needed, room)


def test_numbers_that_stand_for_the_models_own_say_so(page, comfyui):
    open_template(page, comfyui, "image_to_sounding_video")
    displayed = """() => Object.fromEntries(app.graph.nodes.flatMap(
      node => (node.widgets ?? []).map(widget => [`${node.type} ${widget.name}`, widget._displayValue])))"""
    shown = page.evaluate(displayed)
    assert shown["JointDiTCondition frames"] == "model's own (20)"
    assert shown["JointDiTCondition fps"] == "model's own (12.5)"
    assert shown["JointDiTCondition window"] == "model's own (20)"
    assert shown["JointDiTSample video_temperature"] == "model's own (1)"
    assert shown["JointDiTSample seed"] == "0" and shown["JointDiTSample sync"] == "0.0"  # plain numbers
    guidance = """() => {
      const node = LiteGraph.createNode("JointDiTJointCFG");
      return node.widgets.filter(widget => widget.name.endsWith("scale")).map(widget => widget._displayValue);
    }"""
    assert set(page.evaluate(guidance)) == {"model's own"}
    cache = """() => LiteGraph.createNode("JointDiTCacheLatents").widgets.find(each => each.name === "frames")"""
    assert page.evaluate(f"({cache})()._displayValue") == "model's own"
    page.evaluate("""() => {
      for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? []) {
          if (node.type === "JointDiTCondition" && widget.name === "frames") widget.value = 24;
        }
      app.graph.remove(app.graph.nodes.find(node => node.type === "JointDiTLoadModel"));
    }""")
    shown = page.evaluate(displayed)
    assert shown["JointDiTCondition frames"] == "24" and shown["JointDiTCondition fps"] == "model's own"


def test_the_outside_of_a_subgraph_says_so_too(page, comfyui):
    open_template(page, comfyui, "image_to_sounding_video")
    page.evaluate("for (const node of [...app.graph.nodes]) app.graph.remove(node)")
    add_by_name(page, NAME)
    drawn = page.evaluate("""() => {
      const [node] = app.graph.nodes, texts = [], pen = new OffscreenCanvas(600, 600).getContext("2d");
      pen.fillText = (text) => texts.push(text);
      node.size[0] = 600;
      node.drawWidgets(pen, {});
      return texts;
    }""")
    assert {"model's own (20)", "model's own (12)"} <= set(drawn), drawn


def test_vue_nodes_say_so_behind_the_name(page, comfyui):
    setting = "Comfy.VueNodes.Enabled"
    open_template(page, comfyui, "image_to_sounding_video")
    try:
        page.evaluate(f"app.extensionManager.setting.set('{setting}', true)")
        page.get_by_text("frames: model's own (20)", exact=True).wait_for()
        labels = page.get_by_test_id("widget-layout-field-label").all_inner_texts()
        assert {"fps: model's own (12.5)", "steps: model's own (12)", "sync"} <= set(labels), labels
        note = """() => app.canvas.ds.scale *
          parseFloat(getComputedStyle(document.querySelector(".comfy-markdown-content")).fontSize)"""
        assert page.evaluate(note) >= READABLE
        assert "model's own (20)" not in page.evaluate("JSON.stringify(app.graph.serialize())"), "no file has the words"
        change = """change => {
          const node = app.graph.nodes.find(node => node.type === "JointDiTCondition");
          Object.assign(node.widgets.find(widget => widget.name === "frames"), change);
        }"""
        page.evaluate(change, {"label": "length"})
        page.get_by_text("length: model's own (20)", exact=True).wait_for()
        page.evaluate(change, {"value": 24})
        page.get_by_test_id("widget-layout-field-label").get_by_text("length", exact=True).wait_for()
    finally:
        page.evaluate(f"app.extensionManager.setting.set('{setting}', false)")
    page.wait_for_function("""app.graph.nodes.every(
      node => (node.widgets ?? []).every(widget => !String(widget.label).includes(": model's own")))""")


def test_frames_say_that_a_given_video_decides(page, comfyui):
    open_template(page, comfyui, "sound_a_video")
    frames = """() => app.graph.nodes.find(node => node.type === "JointDiTCondition")
      .widgets.find(widget => widget.name === "frames")._displayValue"""
    assert page.evaluate(frames) == "as what is given"


def test_advanced_widgets_are_folded_while_they_are_at_their_defaults(page, comfyui):
    open_template(page, comfyui, "image_to_sounding_video")
    visible = f"() => {SAMPLER}.widgets.filter(widget => {SAMPLER}.isWidgetVisible(widget)).map(widget => widget.name)"
    folded = {"audio_grid", "video_temperature", "fresh_noise", "reuse", "reuse_layers"}
    shown = set(page.evaluate(visible))
    assert {"seed", "steps", "sync", "clips"} <= shown and not folded & shown
    page.evaluate(f"{SAMPLER}.widgets.find(widget => widget.name === 'reuse').value = 2")
    assert folded & set(page.evaluate(visible)) == {"reuse"}
    page.evaluate(f"{SAMPLER}.toggleAdvanced()")
    assert folded <= set(page.evaluate(visible))


def test_a_run_in_the_page_shows_moving_pictures_and_then_the_video(page, comfyui):
    open_template(page, comfyui, "image_to_sounding_video")
    page.evaluate(f"{SAMPLER}.widgets.find(widget => widget.name === 'steps').value = 4")
    page.get_by_test_id("queue-button").click()
    page.wait_for_function(f"{SAMPLER}.imgs?.[0]?.naturalHeight === 512")  # a frame over the loudness
    assert np.std(page.evaluate(PIXELS)) > 5
    video = shown_video(page)
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    width, height, seconds = video.evaluate("video => [video.videoWidth, video.videoHeight, video.duration]")
    assert (width, height) == (128, 128) and seconds == pytest.approx(1.6, abs=0.01)
    video.evaluate("video => { video.muted = true; return video.play(); }")
    page.wait_for_function("document.querySelector('video').webkitAudioDecodedByteCount > 0")


def test_the_first_template_is_an_app(page, comfyui):
    app = page.context.browser.new_page(viewport={"width": 1600, "height": 900})  # the page keeps the mode
    app.set_default_timeout(PATIENCE)
    open_template(app, comfyui, "image_to_sounding_video")
    app.evaluate(f"{SAMPLER}.widgets.find(widget => widget.name === 'steps').value = 2")
    app.evaluate("app.extensionManager.command.execute('Comfy.ToggleLinear')")
    app.get_by_role("button", name="Skip").click()  # ComfyUI's own tour of apps
    labels = app.get_by_test_id("builder-widget-label")
    labels.nth(2).wait_for()
    assert labels.all_inner_texts() == ["image", "prompt", "seed"]
    app.get_by_test_id("linear-widgets").get_by_role("textbox").first.fill("an app of heavy rain")
    app.get_by_role("button", name="Run", exact=True).click()
    app.get_by_test_id("linear-video-output").first.wait_for()
    (done,) = comfyui.json("/history?max_items=1").values()
    graph = done["prompt"][2]
    (given,) = (node["inputs"] for node in graph.values() if node["class_type"] == "JointDiTCondition")
    assert given["prompt"] == "an app of heavy rain" and done["status"]["status_str"] == "success"
    app.close()


def test_a_missing_model_is_named_with_a_button_that_downloads_it(page, comfyui):
    """The hub is played by the browser; the rest of the way is in test_comfyui_from_nothing.py."""
    (offered,) = (
        each
        for node in json.loads((ROOT / "workflows" / "real_experts.json").read_text())["nodes"]
        for each in node["properties"].get("models", [])
        if each["name"] == "svd_xt.safetensors"
    )
    attachment = {"Content-Disposition": f'attachment; filename="{offered["name"]}"'}
    page.context.route(offered["url"], lambda route: route.fulfill(body="weights", headers=attachment))
    open_template(page, comfyui, "real_experts")
    page.get_by_text(f"{offered['name']} is missing").wait_for()
    page.get_by_role("button", name="View details").click()
    with page.context.expect_event("download") as found:
        page.get_by_role("button", name="Download").first.click()
    assert found.value.url == offered["url"] and found.value.suggested_filename == offered["name"]
    assert found.value.path().read_bytes() == b"weights"


def add_by_name(page, name):
    """A double click on the empty canvas, the name, and Enter. On a busy machine two clicks may be two single ones, the
    list may not be there yet, or still be that of a part of the name, which adds another node."""
    for _ in range(20):
        page.mouse.dblclick(700, 600)
        page.keyboard.type(name)
        page.wait_for_timeout(2000)  # until it is first in the list
        page.keyboard.press("Enter")
        with suppress(sync_api.TimeoutError):
            page.wait_for_function("app.graph.nodes.length === 1", timeout=15_000)
            if page.evaluate("app.graph.nodes[0].title") == name:
                return
            page.evaluate("app.graph.remove(app.graph.nodes[0])")
        page.keyboard.press("Escape")
    raise AssertionError(f"no node {name!r} was added")


def test_one_node_found_by_its_name_makes_a_clip(page, comfyui):
    """And what is sent to the server is what this project makes of the saved page."""
    open_template(page, comfyui, "image_to_sounding_video")
    page.evaluate("for (const node of [...app.graph.nodes]) app.graph.remove(node)")
    add_by_name(page, NAME)
    saved, sent = page.evaluate("""async () => {
      const [one] = app.graph.nodes;
      const [loader, saver] = ["LoadImage", "SaveVideo"].map(type => app.graph.add(LiteGraph.createNode(type)));
      loader.widgets[0].value = "example.png";
      for (const [name, value] of [["steps", 2], ["seed", 5], ["prompt", "heavy rain"]])
        one.widgets.find(widget => widget.name === name).value = value;
      loader.connect(0, one, one.findInputSlot("image"));
      one.connect(one.findOutputSlot("video"), saver, 0);
      return [app.graph.serialize(), (await app.graphToPrompt()).output];
    }""")
    given = {node["class_type"]: node["inputs"] for node in sent.values()}
    assert given["JointDiTSample"].items() >= {"steps": 2, "seed": 5}.items()
    assert given["JointDiTCondition"]["prompt"] == "heavy rain" and len(sent) == 8
    assert {key: node["inputs"] for key, node in api_format(saved).items()} == {
        key: node["inputs"] for key, node in sent.items()
    }
    page.get_by_test_id("queue-button").click()
    video = shown_video(page)
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    assert video.evaluate("video => video.duration") == pytest.approx(1.6, abs=0.01)


def test_the_nodes_speak_the_language_of_the_page(page, comfyui):
    japanese = page.context.browser.new_page(locale="ja-JP")
    japanese.set_default_timeout(PATIENCE)
    open_template(japanese, comfyui, "image_to_sounding_video")
    title, inputs, outputs, widgets = japanese.evaluate(f"""() => [
      {SAMPLER}.title, {SAMPLER}.inputs.map(each => each.localized_name),
      {SAMPLER}.outputs.map(each => each.localized_name), {SAMPLER}.widgets.map(each => each.label),
    ]""")
    japanese.close()
    assert title == "JointDiT サンプリング" and {"条件付け", "ガイダンス"} <= set(inputs)
    assert outputs == ["動画", "音声"] and {"シード", "生成後の制御", "ステップ数"} <= set(widgets)


def shown_video(page):
    """The video in Save Video. The page gives up loading it after some seconds, so a slow machine asks again."""
    page.wait_for_function(f"{SAVER}.images?.length", polling=1000)
    video = page.locator("video")
    for _ in range(10):
        try:
            video.wait_for(timeout=60_000)
            return video
        except sync_api.TimeoutError:
            page.evaluate(f"{SAVER}.images = undefined; app.graph.setDirtyCanvas(true, true)")
    raise AssertionError("the page shows no video")
