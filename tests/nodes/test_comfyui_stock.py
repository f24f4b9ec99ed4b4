"""Latents in a real ComfyUI, between its own nodes and those of this extension."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from comfy_pack import ROOT
from original_svd import FLAT_UNET, SMALL_CONFIGS, write_for_comfyui
from PIL import Image

from jointdit import JointDiTPipeline
from jointdit.checkpoints.single_file import CONFIGS, load_single_file
from jointdit.comfyui.client import ComfyClient
from jointdit.comfyui.workflow import read_workflow, set_input
from jointdit.media import read_audio, read_clip, read_image

FILE, MODEL = "stand_in_of_svd.safetensors", "with_its_autoencoder"
SHAPE = {"width": 48, "height": 40, "frames": 4, "fps": 8.0}
WINDOW = 4  # one: a clip of several is decoded window by window, as no stock node does
LEVEL = 1  # of 255: ComfyUI cuts a picture's numbers to bytes, and has another version of PyTorch


@pytest.fixture(scope="module")
def autoencoder(comfyui):
    """In ComfyUI's folders a file of Stable Video Diffusion, and a small model with the autoencoder of this file."""
    models = comfyui.base / "models"
    file, folder = models / "checkpoints" / FILE, models / "jointdit" / MODEL
    file.parent.mkdir(exist_ok=True)
    write_for_comfyui(file)
    unet = CONFIGS["video_unet"] | {"block_out_channels": (320,) * len(FLAT_UNET["multiples"])}
    unet["num_attention_heads"] = (5,) * 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONFIGS, "video_unet", unet)
        patch.setitem(CONFIGS, "image_encoder", SMALL_CONFIGS["image_encoder"])
        loaded = load_single_file(file, torch.float16, frames=25)
    pipe = JointDiTPipeline.from_pretrained(models / "jointdit" / "small")
    pipe.register_modules(video_vae=loaded["video_vae"].float())
    pipe.save_pretrained(folder)
    yield folder
    file.unlink()
    shutil.rmtree(folder)


def clip_graph(model, **changes):
    """The first workflow on a small model, and its nodes' numbers by kind."""
    graph = read_workflow(ROOT / "workflows" / "api" / "image_to_sounding_video.json")
    for name, value in ({"model": model, "steps": 2, "window": WINDOW} | SHAPE | changes).items():
        set_input(graph, f"{name}={value}")
    return graph, {node["class_type"]: number for number, node in graph.items()}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def pictures(images, name):
    return node("SaveImage", images=images, filename_prefix=name)


def run(comfyui, graph, folder):
    """What the graph's nodes have saved, by the beginning of its name."""
    client = ComfyClient(comfyui.url)
    outputs, refusals = client.run(graph, lambda *progress: None)
    assert not refusals
    found = {}
    for path in sorted(client.download(outputs, folder)):
        found.setdefault(path.name.partition("_")[0], []).append(path)
    return found


def frames_of(paths):
    return np.stack([read_image(path) for path in paths]).astype(int)


def test_vae_decode_makes_the_frames_of_our_decoder(comfyui, autoencoder, tmp_path):
    graph, nodes = clip_graph(MODEL)
    graph["file"] = node("ImageOnlyCheckpointLoader", ckpt_name=FILE)
    graph["stock"] = node("VAEDecode", samples=[nodes["JointDiTSample"], 0], vae=["file", 2])
    graph["a"], graph["b"] = pictures(["stock", 0], "stock"), pictures([nodes["JointDiTDecodeVideo"], 0], "ours")
    saved = run(comfyui, graph, tmp_path)
    ours, stock = frames_of(saved["ours"]), frames_of(saved["stock"])
    assert ours.shape == (4, 40, 48, 3) and ours.std() > 20
    assert np.abs(ours - stock).max() <= LEVEL


def test_frames_from_vae_encode_are_decoded_as_the_library_decodes_what_it_encoded(comfyui, autoencoder, tmp_path):
    photo = read_image(comfyui.base / "input" / "example.png")
    given = np.stack([photo[top : top + 40, 100:148, :3] for top in (100, 200, 300)])
    graph = {"file": node("ImageOnlyCheckpointLoader", ckpt_name=FILE)}
    for number, picture in enumerate(given):
        Image.fromarray(picture).save(comfyui.base / "input" / f"tile_{number}.png")
        graph[f"picture {number}"] = node("LoadImage", image=f"tile_{number}.png")
    graph["two"] = node("ImageBatch", image1=["picture 0", 0], image2=["picture 1", 0])
    graph["three"] = node("ImageBatch", image1=["two", 0], image2=["picture 2", 0])
    graph["encoded"] = node("VAEEncode", pixels=["three", 0], vae=["file", 2])
    graph["model"] = node("JointDiTLoadModel", model=MODEL, precision="auto")
    graph["decoded"] = node("JointDiTDecodeVideo", model=["model", 0], video=["encoded", 0], chunk_size=8, overlap=0)
    graph["saved"] = pictures(["decoded", 0], "ours")
    ours = frames_of(run(comfyui, graph, tmp_path)["ours"])
    pipe = JointDiTPipeline.from_pretrained(autoencoder)
    with torch.inference_mode():
        pixels = torch.from_numpy(given).permute(0, 3, 1, 2) / 127.5 - 1
        latents = pipe.video_vae.encode(pixels).latent_dist.mode() * pipe.video_vae.config.scaling_factor
        (expected,) = pipe.decode_video(latents[None], 8, 0)
    assert ours.std() > 20 and np.abs(ours - expected).max() <= LEVEL


def test_a_clip_is_the_same_after_save_latent_and_load_latent(comfyui, tmp_path):
    """Frames and video exactly. Save Latent keeps no number of frames: the sound alone goes on to its latents' end."""
    graph, nodes = clip_graph("small")
    model, sampler, saver = (nodes[each] for each in ("JointDiTLoadModel", "JointDiTSample", "SaveVideo"))
    decoders = {kind: nodes[f"JointDiTDecode{kind.title()}"] for kind in ("video", "audio")}
    for output, kind in enumerate(decoders):
        graph[kind] = node("SaveLatent", samples=[sampler, output], filename_prefix=f"latents/{kind}")
    graph["pictures"] = pictures([decoders["video"], 0], "frames")
    graph["sound"] = node("SaveAudio", audio=[decoders["audio"], 0], filename_prefix="sound")
    graph[saver]["inputs"]["filename_prefix"] = "clip"
    before = run(comfyui, graph, tmp_path / "before")

    kept = (model, nodes["JointDiTMux"], saver, *decoders.values(), "pictures", "sound")
    again = {number: graph[number] for number in kept}
    again[nodes["JointDiTMux"]]["inputs"]["fps"] = SHAPE["fps"]
    for kind, decoder in decoders.items():
        (latents,) = before[kind]
        shutil.copy(latents, comfyui.base / "input")
        again[kind] = node("LoadLatent", latent=latents.name)
        again[decoder]["inputs"][kind] = [kind, 0]
    after = run(comfyui, again, tmp_path / "after")

    frames = frames_of(before["frames"])
    assert frames.shape == (4, 40, 48, 3) and np.array_equal(frames_of(after["frames"]), frames)
    (sound, rate), (longer, _) = (read_audio(each["sound"][0]) for each in (before, after))
    assert sound.shape == (1, round(4 / SHAPE["fps"] * rate)) and sound.shape[1] < longer.shape[1] < rate
    assert np.array_equal(longer[:, : sound.shape[1]], sound)
    clip, same = (read_clip(each["clip"][0]) for each in (before, after))
    assert clip.fps == same.fps and np.array_equal(clip.frames, same.frames) and np.array_equal(clip.audio, same.audio)
