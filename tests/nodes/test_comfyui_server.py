"""A real ComfyUI with this extension, over its API."""

from __future__ import annotations

import io
import json
import re
import shutil
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
from fractions import Fraction

import numpy as np
import pytest
import torch
from blueprints import NAME
from comfy_pack import ROOT, load_pack, nodes
from comfyui_process import PACK
from PIL import Image
from tiny_models import write_trained

from jointdit import InputError, JointDiTPipeline, SamplingSettings
from jointdit.cli import main
from jointdit.comfyui.client import ComfyClient
from jointdit.comfyui.results import shown_texts
from jointdit.comfyui.workflow import read_workflow, set_input
from jointdit.media import read_audio, read_clip, read_image

API = ROOT / "workflows" / "api"
SMALL = {"width": 48, "height": 40, "frames": 4, "fps": 8.0, "steps": 2}  # for the models of the tests
RUN_SECONDS = 600
PUBLISHED = "svd_xt.safetensors"  # which the workflow of the real experts names, and the page offers


def graph(name="image_to_sounding_video", **changes):
    found = read_workflow(API / f"{name}.json")
    for key, value in ({"model": "small", "window": 4} | SMALL | changes).items():
        set_input(found, f"{key}={value}")
    return found


def run_workflow(comfyui, tmp_path, name, *changes):
    options = [f"--set={change}" for change in changes]
    code = main(["run-workflow", str(API / f"{name}.json"), "--server", comfyui.url, "--out", str(tmp_path), *options])
    assert code == 0
    return [read_clip(path) for path in sorted(tmp_path.glob("*.mp4"))]


def test_the_pack_loads_without_a_warning(comfyui):
    log = comfyui.log.read_text()
    assert "IMPORT FAILED" not in log and "comfy_entrypoint" not in log
    assert not [line for line in log.splitlines() if "warn" in line.lower() and ("jointdit" in line.lower())]


def test_the_server_knows_every_node_as_its_schema_says(comfyui):
    load_pack()
    for identity, node in nodes().items():
        info, schema = comfyui.json(f"/object_info/{identity}")[identity], node.define_schema()
        assert info["display_name"] == schema.display_name and info["category"] == schema.category
        assert info["search_aliases"] == schema.search_aliases and info["output_name"]
        listed = [*info["input"].get("required", {}), *info["input"].get("optional", {})]
        assert sorted(listed) == sorted(each.id for each in schema.inputs)
        assert info["output"] == [each.io_type for each in schema.outputs]
        assert info["output_tooltips"] == [each.tooltip for each in schema.outputs]
        assert info["python_module"].endswith(PACK)


@pytest.mark.parametrize(("name", "clips"), [("image_to_sounding_video", 1), ("prompt_with_and_without_jointcfg", 2)])
def test_workflows_of_the_bundled_model_run_as_they_are(comfyui, tmp_path, name, clips):
    found = run_workflow(comfyui, tmp_path, name)
    assert len(found) == clips
    for clip in found:
        assert clip.frames.shape == (20, 128, 128, 3) and clip.fps == Fraction(25, 2)
        assert clip.audio.shape[1] == round(1.6 * clip.sample_rate) and abs(clip.audio).max() > 0.01
        assert (clip.frames[0] != clip.frames[-1]).any()


def test_a_given_video_keeps_its_frames_and_gets_a_sound(comfyui, tmp_path):
    (clip,) = run_workflow(comfyui, tmp_path, "sound_a_video")
    given = read_clip(comfyui.base / "input" / "jointdit_ball.mp4")
    assert clip.frames.shape == given.frames.shape and clip.fps == given.fps
    assert np.abs(clip.frames.astype(int) - given.frames).mean() < 8  # coded twice
    assert clip.audio.shape[1] == round(1.6 * clip.sample_rate) and abs(clip.audio).max() > 0.001


def test_a_long_video_gets_a_sound_in_windows_and_a_bar_of_them_all(comfyui, tmp_path):
    client, reports = ComfyClient(comfyui.url), []
    long = read_workflow(API / "sound_a_long_video.json")
    outputs, refusals = client.run(long, lambda *progress: reports.append(progress))
    (path,) = client.download(outputs, tmp_path)
    clip, given = read_clip(path), read_clip(comfyui.base / "input" / "jointdit_hammers.mp4")
    assert not refusals and clip.frames.shape == given.frames.shape == (60, 128, 128, 3)
    assert clip.audio.shape[1] == round(4.8 * clip.sample_rate) and abs(clip.audio).max() > 0.001
    assert max(total for node, _, total in reports if "Sample" in node) == 3 * 5  # steps, windows


def test_a_clip_is_extended_as_the_library_extends_it(comfyui, tmp_path):
    longer = read_workflow(API / "extend_a_clip.json")
    given = {"frames": 9, "window": 4, "width": 48, "height": 40, "fps": 8.0}
    for key, value in ({"model": "small", "steps": 2, "seed": 5, "picture_seed": 5} | given).items():
        set_input(longer, f"{key}={value}")
    (decoder,) = (number for number, node in longer.items() if node["class_type"] == "JointDiTDecodeVideo")
    longer["saver"] = {"class_type": "SaveImage", "inputs": {"images": [decoder, 0], "filename_prefix": "longer"}}
    client = ComfyClient(comfyui.url)
    outputs, refusals = client.run(longer, lambda *progress: None)
    assert not refusals
    paths = sorted(path for path in client.download(outputs, tmp_path) if path.suffix == ".png")
    pipe = JointDiTPipeline.from_pretrained(comfyui.base / "models" / "jointdit" / "small")
    picture, settings = read_image(comfyui.base / "input" / "example.png"), SamplingSettings(steps=2)
    clip = pipe.long(picture, settings=settings, generator=torch.Generator().manual_seed(5), **given).read()
    frames = np.stack([read_image(path) for path in paths]).astype(int)
    assert frames.shape == (9, 40, 48, 3) and np.abs(frames - clip.frames).max() <= 1


def test_a_picture_moves_to_a_given_sound_which_stays(comfyui, tmp_path):
    sound, rate = read_audio(comfyui.base / "input" / "jointdit_hammer.wav")
    (clip,) = run_workflow(comfyui, tmp_path, "animate_to_a_sound")
    assert clip.frames.shape == (20, 128, 128, 3) and (clip.frames[0] != clip.frames[-1]).any()
    assert clip.sample_rate == rate and clip.audio.shape[1] == round(1.6 * rate)
    assert np.corrcoef(clip.audio[0], sound[0, : clip.audio.shape[1]])[0, 1] > 0.95  # coded once


def test_a_part_of_a_clip_gets_another_sound_and_the_rest_stays(comfyui, tmp_path):
    given = read_clip(comfyui.base / "input" / "jointdit_ball.mp4")
    (clip,) = run_workflow(comfyui, tmp_path, "retake_a_part")
    assert clip.fps == given.fps and clip.frames.shape == given.frames.shape
    assert np.corrcoef(clip.frames.ravel(), given.frames.ravel())[0, 1] > 0.98  # coded once more
    rate, shared = given.sample_rate, min(clip.audio.shape[1], given.audio.shape[1])
    kept = np.zeros(shared, bool)
    kept[: int(0.4 * rate)] = kept[int(1.2 * rate) :] = True
    ours, theirs = clip.audio[0, :shared], given.audio[0, :shared]
    assert np.corrcoef(ours[kept], theirs[kept])[0, 1] > 0.95 > 0.5 > np.corrcoef(ours[~kept], theirs[~kept])[0, 1]


def test_the_sync_report_is_drawn_and_told(comfyui, tmp_path, capsys):
    (clip,) = run_workflow(comfyui, tmp_path, "sync_report")
    assert clip.frames.shape == (20, 128, 128, 3)
    (plot,) = tmp_path.glob("*.png")
    with Image.open(plot) as picture:
        assert picture.width > picture.height > 300
    assert re.search(r"\d+ events seen, \d+ heard.*\nonset alignment: \d", capsys.readouterr().out)


def test_the_blueprint_is_served_and_makes_a_clip(comfyui, tmp_path):
    (identity,) = [key for key, each in comfyui.json("/global_subgraphs").items() if each["name"] == NAME]
    served = comfyui.json(f"/global_subgraphs/{identity}")
    assert served["info"]["node_pack"].endswith(PACK)
    (tmp_path / "blueprint.json").write_text(served["data"])
    flat = read_workflow(tmp_path / "blueprint.json")
    ids = {node["class_type"]: identity for identity, node in flat.items()}
    flat[ids["JointDiTCondition"]]["inputs"]["image"] = ["picture", 0]
    flat["picture"] = {"class_type": "LoadImage", "inputs": {"image": "example.png"}}
    video = {"video": [ids["JointDiTMux"], 0], "filename_prefix": "one_node", "format": "auto", "format.codec": "auto"}
    flat["saver"] = {"class_type": "SaveVideo", "inputs": {**video, "codec": "auto"}}
    for change in ("model=small", "frames=4", "fps=8", "width=48", "height=40", "steps=2"):
        set_input(flat, change)
    client = ComfyClient(comfyui.url)
    outputs, refusals = client.run(flat, lambda *progress: None)
    (path,) = client.download(outputs, tmp_path)
    assert not refusals and read_clip(path).frames.shape == (4, 40, 48, 3)


@pytest.mark.parametrize(
    ("name", "times", "scale"),
    [("finish_a_clip", 2, 2), ("finish_a_clip_with_models", 2, 4), ("finish_a_clip_with_models", 4, 4)],
)
def test_a_finished_clip_has_more_frames_and_pixels_and_the_same_sound(comfyui, tmp_path, name, times, scale):
    given = read_clip(comfyui.base / "input" / "jointdit_ball.mp4")
    (clip,) = run_workflow(comfyui, tmp_path, name, *([f"times.value={times}"] if "models" in name else []))
    assert clip.fps == times * given.fps and clip.frames.shape == (times * len(given.frames), *[128 * scale] * 2, 3)
    assert clip.audio.shape == given.audio.shape and clip.sample_rate == given.sample_rate
    assert np.corrcoef(clip.audio[0], given.audio[0])[0, 1] > 0.99  # coded once more
    frames, small = given.frames.astype(float), clip.frames.reshape(-1, 128, scale, 128, scale, 3).mean((2, 4))
    between = (frames + np.concatenate([frames[1:], frames[-1:]])) / 2
    held = len(frames) - 1  # the last frame stays until the sound ends
    assert np.abs(small[::times] - frames).mean() < 4
    assert np.abs(small[1::times] - between)[:held].mean() < 4 < np.abs(small[1::times] - frames)[:held].mean()
    assert np.abs(small[held * times :] - frames[-1]).mean() < 4


def test_training_on_a_folder_goes_on_after_a_cancel_and_its_result_makes_a_clip(comfyui, tmp_path):
    client, reports = ComfyClient(comfyui.url), []
    training = read_workflow(API / "train_on_a_folder.json")
    for change in ("JointDiTTrain.steps=8", "batch=1", "JointDiTSample.steps=2"):
        set_input(training, change)

    def stop(node, done, total):
        if "Train" in node and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.run(training, stop)
    file = comfyui.base / "models" / "jointdit" / "my_joint_blocks.safetensors"
    assert not file.exists()
    outputs, refusals = client.run(training, lambda *progress: reports.append(progress))
    assert not refusals and min(done for node, done, _ in reports if "Train" in node) > 2
    (path,) = client.download(outputs, tmp_path)
    assert read_clip(path).frames.shape == (20, 128, 128, 3)
    assert shown_texts(outputs) == ["3 clips of 3 files"]
    file.unlink()  # or JointDiT Load Experts would list it from now on


def test_the_workflow_of_the_real_experts_runs_on_their_layout(comfyui, tmp_path):
    small = SMALL | {"video_expert": "stable-video-diffusion-img2vid-xt"}  # the single file would be of full size
    (clip,) = run_workflow(comfyui, tmp_path, "real_experts", *(f"{key}={value}" for key, value in small.items()))
    assert clip.frames.shape == (4, 40, 48, 3) and clip.fps == 8
    assert clip.audio.shape[1] == round(0.5 * clip.sample_rate)


def test_one_file_of_joint_blocks_makes_one_clip_in_the_library_the_command_line_and_comfyui(comfyui, tmp_path):
    """With adapters of the experts beside it, on the bundled model: the small one is silent."""
    photo, folder = comfyui.base / "input" / "example.png", comfyui.base / "models" / "jointdit"
    trained = {"joint": folder / "tuned.safetensors", "adapters": folder / "tuned"}
    write_trained(JointDiTPipeline.from_pretrained("tiny"), *trained.values())

    def library(**trained):
        pipe = JointDiTPipeline.from_pretrained("tiny", **trained)
        return pipe(read_image(photo), "a bell rings", generator=torch.Generator().manual_seed(5), steps=2)

    clip = library(**trained)
    clip.save(tmp_path / "library.mp4")
    words = ["generate", photo, "-o", tmp_path / "command.mp4", "--wav", "--quiet", "--prompt", "a bell rings"]
    words += ["--seed", 5, "--steps", 2, "--joint", trained["joint"], "--adapters", trained["adapters"]]
    assert main([str(word) for word in words]) == 0
    ours, commands = (read_clip(tmp_path / name) for name in ("library.mp4", "command.mp4"))
    assert np.array_equal(ours.frames, commands.frames) and np.array_equal(ours.audio, commands.audio)
    written, rate = read_audio(tmp_path / "command.wav")
    assert rate == clip.sample_rate and np.abs(written - clip.audio).max() < 2**-15

    frames, sound = lossless(comfyui, tmp_path, "a bell rings", joint_blocks=trained["joint"].name, adapters="tuned")
    assert np.abs(frames - clip.frames).max() <= 1  # ComfyUI has another version of PyTorch, and does not round
    assert distance(sound, clip) < 1e-3
    for left_out in trained:
        rest = library(**{name: place for name, place in trained.items() if name != left_out})
        assert distance(sound, rest) > 0.1, f"{left_out} changes nothing"
    trained["joint"].unlink()
    shutil.rmtree(trained["adapters"])


def distance(sound, clip):
    return np.abs(sound - clip.audio).max() / np.abs(clip.audio).max()


def lossless(comfyui, tmp_path, prompt, **changes):
    """The frames of a clip of the bundled model and its sound, by savers of ComfyUI's own that lose nothing."""
    made = read_workflow(API / "image_to_sounding_video.json")
    for name, value in ({"prompt": prompt, "seed": 5, "picture_seed": 5, "steps": 2} | changes).items():
        set_input(made, f"{name}={value}")
    nodes = {node["class_type"]: number for number, node in made.items()}
    for saver, name, decoder in (("SaveImage", "images", "DecodeVideo"), ("SaveAudio", "audio", "DecodeAudio")):
        inputs = {name: [nodes[f"JointDiT{decoder}"], 0], "filename_prefix": "lossless"}
        made[saver] = {"class_type": saver, "inputs": inputs}
    client = ComfyClient(comfyui.url)
    outputs, refusals = client.run(made, lambda *progress: None)
    assert not refusals
    paths = sorted(client.download(outputs, tmp_path / "comfyui"))
    (sound,) = (read_audio(path)[0] for path in paths if path.suffix == ".flac")
    return np.stack([read_image(path) for path in paths if path.suffix == ".png"]).astype(int), sound


def test_graphs_that_were_saved_before_an_input_was_added_still_run(comfyui, tmp_path):
    load_pack()
    older = graph()
    for node in older.values():
        if node["class_type"] in nodes():
            for each in nodes()[node["class_type"]].define_schema().inputs:
                if each.optional and not isinstance(node["inputs"].get(each.id), list):
                    node["inputs"].pop(each.id, None)
    assert older != graph()
    outputs, refusals = ComfyClient(comfyui.url).run(older, lambda *progress: None)
    assert outputs and not refusals


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="no curl or jq on PATH")
def test_the_readme_makes_the_same_clip_with_curl(comfyui, tmp_path):
    _, _, text = (ROOT / "docs/comfyui.md").read_text().partition("<!-- test:curl -->\n```sh\n")
    commands = text.partition("```")[0].replace("http://127.0.0.1:8188", comfyui.url)
    (tmp_path / "workflows").symlink_to(ROOT / "workflows")
    shutil.copy(ROOT / "jointdit" / "assets" / "sample.jpg", tmp_path / "photo.jpg")
    subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, check=True, timeout=RUN_SECONDS)
    clip = read_clip(tmp_path / "clip.mp4")
    assert clip.frames.shape == (20, 128, 128, 3) and clip.audio.shape[1] == round(1.6 * clip.sample_rate)


def test_a_cancel_acts_within_a_step_and_the_next_run_is_as_always(comfyui):
    """A single step of many frames takes minutes on a CPU. Cancelled, it ends within one block of a network."""
    client = ComfyClient(comfyui.url)
    body = json.dumps(
        {"prompt": graph(frames=300, window=300, fps=30.0, width=256, height=256, steps=1, seed=200)}
    ).encode()
    request = urllib.request.Request(f"{comfyui.url}/prompt", body, {"Content-Type": "application/json"})
    before = comfyui.log.read_text().count("JointDiT video unet")
    with urllib.request.urlopen(request, timeout=60) as reply:
        job = json.load(reply)["prompt_id"]
    while comfyui.log.read_text().count("JointDiT video unet") == before and status(comfyui, job) in WAITING:
        time.sleep(0.2)  # until the sampler loads its networks
    time.sleep(3)
    assert status(comfyui, job) == "in_progress"
    started = time.monotonic()
    client.cancel(job)
    while status(comfyui, job) in WAITING:
        time.sleep(0.2)
    assert status(comfyui, job) == "cancelled" and time.monotonic() - started < 15
    outputs, refusals = client.run(graph(seed=201), lambda *progress: None)
    assert outputs and not refusals


@pytest.mark.parametrize(("method", "steps"), [("default", 3), ("none", 2)])
def test_previews_arrive_unless_the_page_wants_none(comfyui, method, steps):
    """What the page itself is sent: pictures with the node that they are of, at every step of it."""
    websocket = pytest.importorskip("websocket")
    connection = websocket.create_connection(f"{comfyui.url.replace('http', 'ws')}/ws?clientId=previews", timeout=300)
    features = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
    connection.send(json.dumps(features))
    made = graph(seed=300 + steps, steps=steps)
    job = {"prompt": made, "client_id": "previews", "extra_data": {"preview_method": method}}
    request = urllib.request.Request(
        f"{comfyui.url}/prompt", json.dumps(job).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=60).close()
    pictures, ended = [], False
    while not ended:
        message = connection.recv()
        if isinstance(message, bytes):
            pictures.append(preview_of(message))
        else:
            told = json.loads(message)
            assert told["type"] not in ("execution_error", "execution_interrupted"), told
            ended = told["type"] == "execution_success"
    connection.close()
    (sampler,) = (number for number, node in made.items() if node["class_type"] == "JointDiTSample")
    assert bool(pictures) == (method == "default")
    assert len(pictures) >= steps or not pictures
    for node, picture in pictures:
        assert node == sampler and picture.size == (512, 491) and np.asarray(picture)[:-64].std() > 1


def preview_of(message):
    """The node and the picture of a binary message, as ComfyUI's protocol.py has them: PREVIEW_IMAGE_WITH_METADATA."""
    kind, length = struct.unpack(">II", message[:8])
    assert kind == 4
    about = json.loads(message[8 : 8 + length])
    return about["node_id"], Image.open(io.BytesIO(message[8 + length :])).convert("RGB")


WAITING = ("pending", "in_progress")


def status(comfyui, job):
    return comfyui.json(f"/api/jobs/{job}")["status"]


def test_every_medium_that_a_template_opens_with_is_there(comfyui):
    for path in API.glob("*.json"):
        for node in read_workflow(path).values():
            loader = {"LoadImage": "image", "LoadVideo": "file", "LoadAudio": "audio"}.get(node["class_type"])
            if loader:
                info = comfyui.json(f"/object_info/{node['class_type']}")[node["class_type"]]["input"]["required"]
                kind, *options = info[loader]
                known = kind if isinstance(kind, list) else options[0]["options"]
                assert node["inputs"][loader] in known, path


def test_memory_stays_flat_over_twenty_runs(comfyui):
    client = ComfyClient(comfyui.url)
    used = []
    for seed in range(20):
        client.run(graph(seed=seed), lambda *progress: None)
        used.append(comfyui.resident())
    assert max(used[10:]) < used[5] + 60 * 2**20, [round(each / 2**20) for each in used]


def test_an_interrupt_cancels_the_job_and_the_next_one_runs(comfyui):
    client, reports = ComfyClient(comfyui.url), []
    long = graph(steps=900, seed=100)

    def stop(*progress):
        reports.append(progress)
        if "Sample" in progress[0] and progress[1] >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.run(long, stop)
    assert reports[-1][1] < 50
    job = next(iter(comfyui.json("/api/jobs?sort_order=desc&limit=1")["jobs"]))
    for _ in range(100):
        job = comfyui.json(f"/api/jobs/{job['id']}")
        if job["status"] == "cancelled":
            break
        time.sleep(0.2)
    assert job["status"] == "cancelled"
    outputs, refusals = client.run(graph(seed=101), lambda *progress: None)
    assert outputs and not refusals


def test_a_job_that_takes_too_long_or_is_deleted_while_it_waits_is_not_waited_for(comfyui, monkeypatch):
    monkeypatch.setattr("jointdit.comfyui.client.QUIET", 1.0)
    long, other = ComfyClient(comfyui.url), ComfyClient(comfyui.url)

    def delete_when_it_waits():
        while not (waiting := comfyui.json("/queue")["queue_pending"]):
            time.sleep(0.1)
        long.cancel(waiting[0][1])

    def wait_for_a_deleted_job(*progress):
        if not deleted:
            deleted.append(True)
            threading.Thread(target=delete_when_it_waits, daemon=True).start()
            with pytest.raises(InputError, match="is gone"):
                other.run(graph(seed=103), lambda *progress: None)

    deleted = []
    with pytest.raises(InputError, match="--timeout 5"):
        long.run(graph(steps=900, seed=102), wait_for_a_deleted_job, timeout=5)
    assert deleted
    outputs, refusals = other.run(graph(seed=104), lambda *progress: None)
    assert outputs and not refusals


def test_two_clients_get_their_own_results(comfyui, tmp_path):
    found = {}

    def use(frames):
        client = ComfyClient(comfyui.url)
        outputs, _ = client.run(graph(frames=frames, seed=frames), lambda *progress: None)
        (found[frames],) = client.download(outputs, tmp_path / str(frames))

    threads = [threading.Thread(target=use, args=(frames,)) for frames in (4, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(RUN_SECONDS)
    assert {frames: len(read_clip(path).frames) for frames, path in found.items()} == {4: 4, 6: 6}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("videos=../..", r"videos: '\.\./\.\.' not in \['videos'\]"),
        ("JointDiTCacheLatents.name=../x", r"name is '\.\./x'"),
    ],
)
def test_training_stays_in_the_folders_of_comfyui(comfyui, change, message):
    training = read_workflow(API / "train_on_a_folder.json")
    set_input(training, change)
    with pytest.raises(InputError, match=message):
        ComfyClient(comfyui.url).run(training, lambda *progress: None)


def test_a_training_with_a_bad_name_is_refused_before_its_cache_is_made(comfyui):
    training = read_workflow(API / "train_on_a_folder.json")
    set_input(training, "JointDiTTrain.name=a/b")
    set_input(training, "JointDiTCacheLatents.name=unwanted")
    with pytest.raises(InputError, match="JointDiT Train: name is 'a/b'"):
        ComfyClient(comfyui.url).run(training, lambda *progress: None)
    assert not (comfyui.base / "output" / "jointdit" / "caches" / "unwanted").exists()


@pytest.mark.parametrize(
    ("changes", "node", "inputs"),
    [
        ({"name": "a/b"}, "JointDiTTrain", ["name"]),
        ({"videos": "nope"}, "JointDiTCacheLatents", ["videos"]),
    ],
    ids=("name", "videos"),
)
def test_a_complaint_is_shown_at_the_input_that_it_is_about(comfyui, changes, node, inputs):
    training = read_workflow(API / "train_on_a_folder.json")
    for key, value in changes.items():
        set_input(training, f"{node}.{key}={value}")
    body = json.dumps({"prompt": training}).encode()
    request = urllib.request.Request(f"{comfyui.url}/prompt", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            reply = json.load(answer)
    except urllib.error.HTTPError as refused:
        reply = json.load(refused)
    (found,) = [each for each in reply["node_errors"].values() if each["class_type"] == node]
    assert [error["extra_info"]["input_name"] for error in found["errors"]] == inputs


def test_what_is_left_out_of_a_workflow_is_told_while_the_rest_runs(comfyui):
    training = read_workflow(API / "train_on_a_folder.json")
    set_input(training, "JointDiTTrain.steps=0")
    outputs, (refusal,) = ComfyClient(comfyui.url).run(training, lambda *progress: None)
    assert "JointDiTTrain" in refusal and "smaller than min of 1: steps" in refusal
    assert shown_texts(outputs) == ["3 clips of 3 files"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 50}, "size is 50x40.*use 48x40"),
        ({"frames": 1}, "frames is 1"),
        ({"fps": 0.001}, "4 frames at 0.001 fps last 4000 s.*at most 60 s"),
        ({"model": "nope"}, "'nope' is not there.*models/jointdit"),
        ({"steps": -1}, "smaller than min of 0: steps"),
        ({"sampler": "magic"}, "sampler: 'magic' not in"),
        ({"image": "none.png"}, "none.png"),
        ({"chunk_size": 4, "overlap": 4}, "overlap is 4"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_inputs_are_refused_in_words_that_help(comfyui, changes, message):
    with pytest.raises(InputError, match=message):
        ComfyClient(comfyui.url).run(graph(**changes), lambda *progress: None)


def test_templates_thumbnails_and_help_pages_are_served(comfyui):
    names = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert sorted(comfyui.json("/api/workflow_templates")[PACK]) == names
    for name in names:
        assert comfyui.json(f"/api/workflow_templates/{PACK}/{name}.json")["nodes"]
        assert comfyui.get(f"/api/workflow_templates/{PACK}/{name}.jpg")[:2] == b"\xff\xd8"
    for path in (ROOT / "web" / "docs").iterdir():
        assert comfyui.get(f"/extensions/{PACK}/docs/{path.name}") == path.read_bytes()


def test_what_the_linter_is_told_of_our_nodes_is_what_the_server_says(comfyui):
    load_pack()
    path = ROOT / ".ci" / "object_info.json"
    known = json.loads(path.read_text())
    for name in nodes():
        found = interface(comfyui.json(f"/object_info/{name}")[name])
        if name == "JointDiTLoadExperts":
            found["input"]["required"]["video_expert"][1]["options"].append(PUBLISHED)
        assert known[name] == found, f"{path}: {name} is out of date"


def interface(info):
    """Inputs and outputs of a node without the words for people."""
    return without_words({key: info[key] for key in ("name", "input", "output")})


def without_words(data):
    if isinstance(data, dict):
        return {key: without_words(value) for key, value in data.items() if key != "tooltip"}
    return [without_words(each) for each in data] if isinstance(data, list) else data
