"""`jointdit fetch-models` against a hub on this machine: what is fetched, and what is left after every failure."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hub_stand_in import Break, Hub, digest
from huggingface_hub import constants, snapshot_download
from sounding_videos import video
from tiny_extractors import write_all
from tiny_models import write_experts

from jointdit import InputError, JointDiTPipeline
from jointdit.checkpoints.folders import resolve
from jointdit.checkpoints.published import MODELS, needed_files
from jointdit.cli import main

SVD, AUDIO = MODELS["svd"].repository, MODELS["audioldm2"].repository
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
MEGABYTE = 10**6

# As published, with what is not needed.
SVD_FILES = """
.gitattributes LICENSE.md README.md comparison.png output_tile.gif svd.safetensors svd_image_decoder.safetensors
feature_extractor/preprocessor_config.json scheduler/scheduler_config.json image_encoder/config.json
image_encoder/model.fp16.safetensors image_encoder/model.safetensors unet/config.json
unet/diffusion_pytorch_model.fp16.safetensors unet/diffusion_pytorch_model.safetensors vae/config.json
vae/diffusion_pytorch_model.fp16.safetensors vae/diffusion_pytorch_model.safetensors model_index.json
""".split()
AUDIO_SETTINGS = """
feature_extractor/preprocessor_config.json language_model/config.json projection_model/config.json
scheduler/scheduler_config.json text_encoder/config.json text_encoder_2/config.json tokenizer/merges.txt
tokenizer/special_tokens_map.json tokenizer/tokenizer.json tokenizer/tokenizer_config.json tokenizer/vocab.json
tokenizer_2/special_tokens_map.json tokenizer_2/spiece.model tokenizer_2/tokenizer.json
tokenizer_2/tokenizer_config.json unet/config.json vae/config.json vocoder/config.json model_index.json
""".split()
AUDIO_WEIGHTS = """
language_model/model projection_model/diffusion_pytorch_model text_encoder/model text_encoder_2/model
unet/diffusion_pytorch_model vae/diffusion_pytorch_model vocoder/model
""".split()
AUDIO_FILES = [".gitattributes", "README.md", *AUDIO_SETTINGS]
AUDIO_FILES += [name.replace("/model", "/pytorch_model") + ".bin" for name in AUDIO_WEIGHTS]
AUDIO_FILES += [name + ".safetensors" for name in AUDIO_WEIGHTS]
SVD_HALF = [path for path in SVD_FILES if "/" in path and (".fp16." in path or path.endswith(".json"))]
SVD_NEEDED = sorted([*SVD_HALF, "model_index.json"])


@cache
def content(path: str) -> bytes:
    """Something of its own for every file; the video UNet takes several pieces to arrive."""
    return random.Random(path).randbytes(6 * MEGABYTE if path == UNET else 1000 + len(path))


@pytest.fixture
def hub(tmp_path_factory, monkeypatch) -> Iterator[Hub]:
    """The hub that huggingface_hub talks to, with nobody logged in and an empty cache."""
    home = tmp_path_factory.mktemp("home")
    cards = {SVD: {"license": "other", "license_name": "the-svd-licence"}, AUDIO: {"license": "the-audio-licence"}}
    files = {SVD: SVD_FILES, AUDIO: AUDIO_FILES}
    with Hub({name: {path: content(path) for path in paths} for name, paths in files.items()}, cards) as hub:
        # What huggingface_hub has read from the environment already, and the same for processes of their own.
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(home))
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def hub_cache(hub) -> Path:
    return Path(constants.HF_HUB_CACHE)


@pytest.fixture
def refused(capsys) -> Callable[..., str]:
    def run(*argv: object) -> str:
        """Runs the command, which must end with status 2 and one line on stderr; returns the line."""
        capsys.readouterr()
        assert main(["fetch-models", *map(str, argv)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("jointdit: error: ") and err.count("\n") == 1
        return err

    return run


def fetched(*argv: object) -> None:
    assert main(["fetch-models", *map(str, argv), "--yes", "--quiet"]) == 0


def command(*argv: object, **options: object) -> subprocess.Popen[str]:
    """The command in a process of its own, as a user starts it."""
    words = [sys.executable, "-m", "jointdit", "fetch-models", *map(str, argv)]
    return subprocess.Popen(words, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options)


def published(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_exactly_the_needed_files_of_the_published_layouts() -> None:
    assert sorted(needed_files(MODELS["svd"], SVD_FILES)) == SVD_NEEDED
    assert len(SVD_NEEDED) == 9
    full = needed_files(MODELS["svd"], SVD_FILES, half=False)
    assert sorted(full) == [path.replace(".fp16", "") for path in SVD_NEEDED]
    assert needed_files(MODELS["svd"], SVD_FILES, single_file="svd.safetensors") == ["svd.safetensors"]
    audio = needed_files(MODELS["audioldm2"], AUDIO_FILES)
    assert sorted(audio) == sorted([*AUDIO_SETTINGS, *(name + ".safetensors" for name in AUDIO_WEIGHTS)])
    assert audio == needed_files(MODELS["audioldm2"], AUDIO_FILES, half=False)
    for lost in ("unet/diffusion_pytorch_model.safetensors", "tokenizer_2/", "model_index.json", "vae/config.json"):
        with pytest.raises(InputError, match="cvssp/audioldm2: does not have " + lost.rstrip("/")):
            needed_files(MODELS["audioldm2"], [path for path in AUDIO_FILES if not path.startswith(lost)])


def test_a_dry_run_lists_files_sizes_and_licences_and_makes_no_file(hub, hub_cache, tmp_path, capsys) -> None:
    assert main(["fetch-models", "svd", "audioldm2", "--to", str(tmp_path / "new"), "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == f"{SVD}, licence the-svd-licence, which is on {hub.url}/{SVD}"
    assert f"{AUDIO}, licence the-audio-licence, which is on {hub.url}/{AUDIO}" in lines
    listed = [line.split()[-1] for line in lines if line.startswith("  ")]
    assert sorted(listed[:9]) == SVD_NEEDED and listed[9] == str(tmp_path / "new" / "stable-video-diffusion-img2vid")
    assert f"    6.00 MB  {UNET}" in lines
    assert f"    6.01 MB  in all, to {listed[9]}" in lines
    assert {request.path.split("?")[0] for request in hub.requests} == {f"/api/models/{SVD}", f"/api/models/{AUDIO}"}
    assert os.listdir(tmp_path) == [] and not hub_cache.exists()


def test_a_folder_holds_exactly_the_model_and_is_fetched_once(hub, tmp_path, capsys) -> None:
    fetched("svd", "audioldm2", "--to", tmp_path / "models")
    video, audio = (tmp_path / "models" / name for name in ("stable-video-diffusion-img2vid", "audioldm2"))
    out, err = capsys.readouterr()
    assert out.splitlines()[-2:] == [str(video), str(audio)] and err == ""
    assert published(video) == {path: content(path) for path in SVD_NEEDED}
    assert sorted(published(audio)) == sorted([*AUDIO_SETTINGS, *(name + ".safetensors" for name in AUDIO_WEIGHTS)])
    assert sorted(os.listdir(tmp_path / "models")) == ["audioldm2", "stable-video-diffusion-img2vid"]

    before = len(hub.received())
    fetched("svd", "--to", tmp_path / "models")
    assert len(hub.received()) == before
    assert "in all, 6.01 MB of them here" in capsys.readouterr().out


def test_full_precision_and_the_single_file(hub, tmp_path, refused) -> None:
    fetched("svd", "--full", "--to", tmp_path)
    full = tmp_path / "stable-video-diffusion-img2vid"
    assert sorted(published(full)) == [path.replace(".fp16", "") for path in SVD_NEEDED]
    shutil.rmtree(full)
    fetched("svd", "--single-file", "--to", tmp_path)
    assert published(tmp_path) == {"svd.safetensors": content("svd.safetensors")}
    assert "audioldm2: is not published as a single file" in refused("audioldm2", "--single-file", "--yes")


def test_the_cache_is_the_one_that_huggingface_hub_reads(hub, hub_cache, capsys) -> None:
    fetched("svd")
    snapshot = Path(snapshot_download(SVD, local_files_only=True))
    assert capsys.readouterr().out.splitlines()[-1] == str(snapshot)
    assert published(snapshot) == {path: content(path) for path in SVD_NEEDED}
    assert list(hub_cache.rglob("*.incomplete")) == []

    before = len(hub.received())
    fetched("svd")
    fetched("svd", "--single-file")
    assert [request.path for request in hub.received()[before:] if request.sent] == [
        "/" + digest("svd.safetensors", content("svd.safetensors"))
    ]
    assert capsys.readouterr().out.splitlines()[-1] == str(snapshot / "svd.safetensors")


def test_what_was_fetched_loads(hub, tmp_path, tmp_path_factory) -> None:
    """The real classes at small size: half precision from the hub, joined from the fetched folders."""
    source = tmp_path_factory.mktemp("source")
    video, audio = write_experts(source)
    for folder in (video, audio):
        (folder / "model_index.json").write_text("{}")
    (audio / "feature_extractor").mkdir()
    (audio / "feature_extractor" / "preprocessor_config.json").write_text("{}")
    for name, folder in ((SVD, video), (AUDIO, audio)):
        hub.repositories[name] = published(folder)
    for path in SVD_HALF:
        if ".fp16." in path:
            hub.repositories[SVD][path] = hub.repositories[SVD][path.replace(".fp16", "")]
    fetched("svd", "audioldm2", "--to", tmp_path)
    pipe = JointDiTPipeline.from_experts(tmp_path / "stable-video-diffusion-img2vid", tmp_path / "audioldm2")
    assert pipe.video_unet.config.num_frames == 3


def test_a_name_is_fetched_when_a_loader_is_asked_to_without_what_is_not_needed(hub) -> None:
    with pytest.raises(InputError, match="no model"):
        resolve(SVD)
    folder = resolve(SVD, local_files_only=False)
    plain = [path for path in SVD_FILES if path.endswith((".json", "model.safetensors"))]
    assert published(folder) == {path: content(path) for path in plain}
    assert resolve(SVD) == folder, "from the cache"
    with pytest.raises(InputError, match="nobody/nothing: the hub does not have it"):
        resolve("nobody/nothing", local_files_only=False)
    with pytest.raises(InputError, match="not the name of a repository"):
        resolve("no body/no..thing", local_files_only=False)
    hub.repositories["nobody/nothing"] = {"README.md": b"soon"}
    with pytest.raises(InputError, match="nobody/nothing: has no model"):
        resolve("nobody/nothing", local_files_only=False)


def test_a_name_that_was_fetched_is_used_without_a_connection(hub, monkeypatch) -> None:
    folder = resolve(SVD, local_files_only=False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert resolve(SVD, local_files_only=False) == folder
    with pytest.raises(InputError, match="the connection failed"):
        resolve(AUDIO, local_files_only=False)


def test_what_does_not_end_is_refused_for_a_name_that_a_loader_fetches(hub, hub_cache) -> None:
    path = "unet/diffusion_pytorch_model.safetensors"
    hub.served, hub.breaks = {path: bytes(2 * MEGABYTE)}, [Break(2 * MEGABYTE, "endless")]
    with pytest.raises(InputError, match=f"{path}: .* bytes came instead of {len(content(path))}") as caught:
        resolve(SVD, local_files_only=False)
    assert "\n" not in str(caught.value)
    assert sum(file.stat().st_size for file in hub_cache.rglob("*") if file.is_file()) < MEGABYTE


@pytest.mark.parametrize("many", ["bytes", "seconds"])
def test_a_list_of_files_that_does_not_end_is_refused(many, hub, tmp_path, refused, monkeypatch) -> None:
    monkeypatch.setattr("jointdit.checkpoints.hub.REPLY_BYTES", 10**5 if many == "bytes" else 10**12)
    monkeypatch.setattr("jointdit.checkpoints.hub.REPLY_SECONDS", 60.0 if many == "bytes" else 0.3)
    hub.endless = "/api/models/"
    line = refused("svd", "--to", tmp_path, "--yes")
    told = "of more than 100.00 kB" if many == "bytes" else "that takes more than 0.3 seconds"
    assert f"{hub.url}: does not answer as the Hugging Face Hub does (a list of files {told})" in line
    with pytest.raises(InputError, match="a list of files"):
        resolve(SVD, local_files_only=False)
    assert os.listdir(tmp_path) == []


def test_a_broken_connection_is_taken_up_again(hub, tmp_path) -> None:
    hub.breaks = [Break(3 * MEGABYTE), Break(2 * MEGABYTE, "reset")]
    fetched("svd", "--to", tmp_path)
    assert published(tmp_path / "stable-video-diffusion-img2vid") == {path: content(path) for path in SVD_NEEDED}
    ranges = [request.range for request in hub.received() if request.path == "/" + digest(UNET, content(UNET))]
    assert ranges[0] is None and len(ranges) == 3 and all(ranges[1:]) and ranges[1] != ranges[2]


@pytest.mark.parametrize("to", [False, True], ids=["cache", "folder"])
def test_a_broken_download_goes_on_where_it_stopped(to, hub, hub_cache, tmp_path, refused) -> None:
    place = ["--to", tmp_path] if to else []
    hub.breaks = [Break(4 * MEGABYTE, "reset")] + [Break(0, "reset")] * 9
    line = refused("svd", *place, "--yes", "--quiet")
    assert f"{hub.url}: the connection failed" in line and "resumes where it stopped" in line
    assert not (tmp_path / "stable-video-diffusion-img2vid").exists()
    root = tmp_path if to else hub_cache
    assert not [path for path in root.rglob("*") if path.suffix == ".safetensors" or path.name == "model_index.json"]
    (partial,) = root.rglob("*.incomplete" if not to else "*/*.incomplete")
    assert partial.stat().st_size > 2 * MEGABYTE

    hub.breaks, arrived, hub.requests = [], partial.stat().st_size, []
    fetched("svd", *place)
    folder = tmp_path / "stable-video-diffusion-img2vid" if to else snapshot_download(SVD, local_files_only=True)
    assert published(Path(folder)) == {path: content(path) for path in SVD_NEEDED}
    (resumed,) = [request for request in hub.received() if request.path == "/" + digest(UNET, content(UNET))]
    assert (resumed.range, resumed.sent) == (f"bytes={arrived}-", len(content(UNET)) - arrived)
    assert list(root.rglob("*.incomplete")) == []


def test_a_hub_that_is_down_takes_one_line(hub, tmp_path, refused, monkeypatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    line = refused("svd", "--to", tmp_path, "--yes")
    assert "http://127.0.0.1:9: the connection failed" in line and "refused" in line
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (UNET, lambda body: body[:-5]),
        (UNET, lambda body: body + b"more"),
        (UNET, lambda body: b"x" + body[1:]),
        ("vae/config.json", lambda body: body[:-1]),
        ("vae/config.json", lambda body: b"x" + body[1:]),
    ],
    ids=["short", "long", "changed", "short-small", "changed-small"],
)
def test_a_file_that_is_not_as_announced_is_deleted(path, change, hub, tmp_path, refused) -> None:
    body = content(path)
    hub.served = {path: change(body)}
    line = refused("svd", "--to", tmp_path, "--yes", "--quiet")
    wrong = "its checksum is wrong" if len(change(body)) == len(body) else f"bytes came instead of {len(body)}"
    assert f"{SVD}/{path}" in line and wrong in line and "deleted" in line
    assert not (tmp_path / "stable-video-diffusion-img2vid").exists()
    assert [file for file in tmp_path.rglob("*") if file.name.startswith(digest(path, body))] == []
    hub.served = {}
    fetched("svd", "--to", tmp_path)
    assert published(tmp_path / "stable-video-diffusion-img2vid") == {path: content(path) for path in SVD_NEEDED}


def test_a_partial_file_that_is_longer_than_the_hubs_is_deleted(hub, tmp_path, refused) -> None:
    """The storage answers 416: there is nothing after what is here."""
    store = tmp_path / ".stable-video-diffusion-img2vid.incomplete"
    store.mkdir()
    partial = store / f"{digest(UNET, content(UNET))}.incomplete"
    partial.write_bytes(content(UNET)[: 4 * MEGABYTE])
    hub.served = {UNET: content(UNET)[: 4 * MEGABYTE]}
    assert "4000000 bytes came instead of 6000000" in refused("svd", "--to", tmp_path, "--yes", "--quiet")
    assert not partial.exists()


def test_bytes_of_an_older_commit_are_not_continued(hub, tmp_path, refused) -> None:
    hub.breaks = [Break(4 * MEGABYTE, "reset")] + [Break(0, "reset")] * 9
    refused("svd", "--to", tmp_path, "--yes", "--quiet")
    hub.breaks = []
    hub.repositories[SVD][UNET] = bytes(reversed(content(UNET)))
    fetched("svd", "--to", tmp_path)
    assert (tmp_path / "stable-video-diffusion-img2vid" / UNET).read_bytes() == hub.repositories[SVD][UNET]
    assert os.listdir(tmp_path) == ["stable-video-diffusion-img2vid"]


@pytest.mark.parametrize("token", [None, "of somebody else"])
def test_a_licence_to_accept_first_is_named_with_its_page(token, hub, tmp_path, refused, monkeypatch, capsys) -> None:
    hub.gated = {SVD: "hf_mine"}
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    line = refused("svd", "--to", tmp_path, "--yes")
    assert f"accept the licence on {hub.url}/{SVD}, and log in with: hf auth login" in line
    assert hub.received() == [] and os.listdir(tmp_path) == []
    assert main(["fetch-models", "svd", "--dry-run"]) == 0
    assert f"which is on {hub.url}/{SVD} and must be accepted there" in capsys.readouterr().out


def test_the_token_goes_to_the_hub_and_not_to_the_storage(hub, tmp_path, monkeypatch) -> None:
    hub.gated = {SVD: "hf_mine"}
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    fetched("svd", "--to", tmp_path)
    tokens = {request.path.count("/") > 1: request.token for request in hub.requests}
    assert tokens == {True: "Bearer hf_mine", False: None}


@pytest.mark.parametrize(
    ("refusals", "says"),
    [
        ({"/api/": 401}, "accept the licence on"),
        ({"/api/": 403}, "accept the licence on"),
        ({"/api/": 404}, "does not have it (404"),
        ({"/api/": 500}, "answers with error 500"),
        ({"/resolve/": 401}, "accept the licence on"),
        ({"vae/config.json": 403}, "accept the licence on"),
        ({"vae/config.json": 404}, "does not have it (404"),
        ({"vae/config.json": 500}, "answers with error 500"),
        ({"vae/config.json": 503}, "answers with error 503"),
    ],
    ids=lambda value: "-".join(map(str, *value.items())) if isinstance(value, dict) else None,
)
def test_a_refusal_takes_one_line(refusals, says, hub, tmp_path, refused) -> None:
    hub.refusals = refusals
    line = refused("svd", "--to", tmp_path, "--yes", "--quiet")
    assert says in line and hub.url in line
    assert not (tmp_path / "stable-video-diffusion-img2vid").exists()


def test_another_server_than_a_hub_is_told(hub, tmp_path, refused) -> None:
    for page in (b"<html>Log in to this hotel</html>", b"{}", b'{"id": "x"}'):
        hub.page = page
        assert f"{hub.url}: does not answer as the Hugging Face Hub does" in refused("svd", "--to", tmp_path, "--yes")
    hub.page = describes(siblings=[{"rfilename": "svd.safetensors", "size": 3, "blobId": "../../x"}])
    line = refused("svd", "--to", tmp_path, "--single-file", "--yes")
    assert "does not tell size and checksum of stabilityai/stable-video-diffusion-img2vid/svd.safetensors" in line


def test_an_answer_without_a_commit_is_told(hub, hub_cache, refused) -> None:
    listing = '[{"rfilename": "svd.safetensors", "size": 3, "blobId": "%s"}]' % ("0" * 40)
    hub.page = b'{"id": "x", "siblings": %s}' % listing.encode()
    assert f"{hub.url}: does not answer as the Hugging Face Hub does" in refused("svd", "--single-file", "--yes")


def describes(**changes: object) -> bytes:
    """What the hub says of Stable Video Diffusion, with something else in it."""
    siblings = [{"rfilename": path, "size": len(content(path)), "blobId": "0" * 40, "lfs": None} for path in SVD_NEEDED]
    return json.dumps({"id": SVD, "sha": "0" * 40, "gated": False, "siblings": siblings} | changes).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"sha": "../../../elsewhere"},
        {"sha": "/elsewhere"},
        {"sha": ["0" * 40]},
        {"siblings": [{"rfilename": f"{name}"} for name in ("../vae/config.json", "/etc/config.json", "..")]},
        {"siblings": [{"rfilename": path.replace("/", "//"), "size": 1, "blobId": "0" * 40} for path in SVD_NEEDED]},
        {"siblings": [{"rfilename": path, "size": -5, "blobId": "0" * 40} for path in SVD_NEEDED]},
        {"siblings": [{"rfilename": path, "size": "many", "blobId": "0" * 40} for path in SVD_NEEDED]},
        {"siblings": [{"rfilename": path, "size": 10**30, "blobId": "0" * 40} for path in SVD_NEEDED]},
        {"siblings": [{"rfilename": path, "size": 3, "blobId": "../" * 13 + "x"} for path in SVD_NEEDED]},
        {"siblings": [{"rfilename": 3}]},
        {"siblings": [None]},
        {"siblings": "all"},
        {"cardData": {"license": ["\x1b[31m"] * 10_000}, "siblings": []},
    ],
    ids=lambda changes: repr(changes)[:60],
)
def test_a_hub_that_says_what_cannot_be_is_refused(changes, hub, hub_cache, tmp_path, refused) -> None:
    hub.page = describes(**changes)
    before = sorted(tmp_path.rglob("*"))
    for place in ([], ["--to", tmp_path]):
        line = refused("svd", *place, "--yes", "--dry-run")
        assert line.strip().isprintable() and len(line) < 1000
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_without_end_stops_at_its_announced_size(hub, tmp_path, refused) -> None:
    hub.breaks = [Break(len(content(UNET)), "endless")]
    assert "came instead of 6000000" in refused("svd", "--to", tmp_path, "--yes")
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(sizes) < 2 * len(content(UNET))
    assert main(["fetch-models", "svd", "--to", str(tmp_path), "--yes", "--quiet"]) == 0


def test_something_else_at_the_target_stays(hub, tmp_path, refused) -> None:
    target = tmp_path / "stable-video-diffusion-img2vid"
    (target / "unet").mkdir(parents=True)
    (target / "unet" / "config.json").write_text("{}")
    assert f"{target}: exists, but not with " in refused("svd", "--to", tmp_path, "--yes")
    (tmp_path / "svd.safetensors").write_bytes(b"mine")
    line = refused("svd", "--to", tmp_path, "--single-file", "--yes")
    assert f"{tmp_path / 'svd.safetensors'}: exists, but not with svd.safetensors as published" in line
    assert published(tmp_path) == {"stable-video-diffusion-img2vid/unet/config.json": b"{}", "svd.safetensors": b"mine"}


def test_a_place_that_cannot_be_written_is_named(hub, tmp_path, refused) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "file/models", "long" * 100):
        assert str(tmp_path / name) in refused("svd", "--to", tmp_path / name, "--yes", "--quiet")
    assert os.listdir(tmp_path) == ["file"] and hub.received() == []


def test_room_on_the_disk_is_looked_for_first(hub, tmp_path, refused) -> None:
    hub.sizes = {UNET: 10**18}
    line = refused("svd", "audioldm2", "--to", tmp_path / "new", "--yes")
    assert "are free, but 1000000000.00 GB are needed" in line
    assert hub.received() == [] and os.listdir(tmp_path) == []


def test_a_full_disk_takes_one_line_and_a_larger_one_goes_on(hub, tmp_path) -> None:
    """A limit on a file's size stops the write in the middle, as a full disk does."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MEGABYTE, 4 * MEGABYTE))

    with command("svd", "--to", tmp_path, "--yes", preexec_fn=limited) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 2 and err.count("\n") == 1
    assert "cannot be written (file too large)" in err and "resumes where it stopped" in err
    assert os.listdir(tmp_path) == [".stable-video-diffusion-img2vid.incomplete"]
    (partial,) = tmp_path.glob("*/*.incomplete")
    assert partial.stat().st_size == 4 * MEGABYTE
    hub.requests = []
    fetched("svd", "--to", tmp_path)
    assert f"bytes={4 * MEGABYTE}-" in [request.range for request in hub.received()]
    assert published(tmp_path / "stable-video-diffusion-img2vid") == {path: content(path) for path in SVD_NEEDED}


def test_a_disk_that_fills_up_under_way_takes_one_line(hub, tmp_path) -> None:
    """A real small disk, which something else fills after the check."""
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("this system lets no user mount a disk of their own")
    disk = tmp_path / "disk"
    disk.mkdir()
    hub.breaks = [Break(4 * MEGABYTE, "stall")]
    script = """
        mount -t tmpfs -o size=8m disk "$1" || exit 1
        "$2" -m jointdit fetch-models svd --to "$1" --yes &
        until [ $(du -sm "$1" | cut -f1) -ge 2 ]; do sleep 0.05; done
        head -c 8M /dev/zero > "$1/other" 2> /dev/null
        echo filled
        wait $!; status=$?
        find "$1" -type f
        exit $status
    """
    process = subprocess.Popen(
        [*own, "sh", "-c", script, "sh", str(disk), sys.executable],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        shown = ""
        while "filled\n" not in shown:
            shown += process.stdout.readline()
        hub.stalled.set()
        rest, err = process.communicate(timeout=120)
    assert process.returncode == 2 and err.count("\n") == 1
    assert "cannot be written (no space left on device)" in err and str(disk) in err
    unet = digest(UNET, content(UNET))
    names = {Path(line).name for line in rest.splitlines()}
    assert f"{unet}.incomplete" in names and not {unet, "model_index.json"} & names


def test_what_a_kill_after_the_last_file_leaves_is_gone_after_the_next_run(hub, tmp_path) -> None:
    fetched("svd", "--to", tmp_path)
    (tmp_path / ".stable-video-diffusion-img2vid.incomplete").mkdir()
    fetched("svd", "--to", tmp_path)
    assert os.listdir(tmp_path) == ["stable-video-diffusion-img2vid"]


def test_ctrl_c_leaves_what_has_arrived_to_go_on(hub, tmp_path) -> None:
    hub.breaks = [Break(4 * MEGABYTE, "stall")]
    with command("svd", "--to", tmp_path, "--yes") as process:
        store = tmp_path / ".stable-video-diffusion-img2vid.incomplete"
        partial = store / f"{digest(UNET, content(UNET))}.incomplete"
        until(lambda: partial.exists() and partial.stat().st_size > 2 * MEGABYTE)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "jointdit: interrupted\n")
    assert os.listdir(tmp_path) == [store.name] and partial.stat().st_size > 2 * MEGABYTE
    hub.requests = []
    fetched("svd", "--to", tmp_path)
    assert os.listdir(tmp_path) == ["stable-video-diffusion-img2vid"]
    assert sum(request.sent for request in hub.received()) < 5 * MEGABYTE


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_without_a_terminal_nothing_is_asked_and_nothing_done(hub, tmp_path, refused) -> None:
    line = refused("svd", "--to", tmp_path)
    assert "--yes" in line and "no terminal" in line
    assert hub.requests == [] and os.listdir(tmp_path) == []


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_terminal_is_asked_and_sees_a_bar(answer, hub, tmp_path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with command("svd", "--to", tmp_path, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        asked = b""
        while b"[y/N]" not in asked:
            asked += os.read(master, 4096)
        assert f"licence the-svd-licence, which is on {hub.url}/{SVD}".encode() in asked and b"Fetch 6.01 MB" in asked
        assert hub.received() == [] and os.listdir(tmp_path) == []
        os.write(master, answer.encode() + b"\n")
        shown = b""
        with contextlib.suppress(OSError):  # once the process has gone
            while piece := os.read(master, 4096):
                shown += piece
    os.close(master)
    if answer == "y":
        assert process.returncode == 0 and b"svd: 100%" in shown and b"6.01M/6.01M" in shown
        assert shown.splitlines()[-1].decode() == str(tmp_path / "stable-video-diffusion-img2vid")
    else:
        assert process.returncode == 2 and b"jointdit: error: not confirmed; nothing was fetched" in shown
        assert hub.received() == [] and os.listdir(tmp_path) == []


def test_a_wrong_name_lists_the_models(refused) -> None:
    line = refused("svd", "sdxl", "--yes")
    assert "sdxl" in line and all(name in line for name in MODELS)


NETWORK_FILES = """
.gitattributes README.md config.json flax_model.msgpack merges.txt model.safetensors preprocessor_config.json
pytorch_model.bin special_tokens_map.json tf_model.h5 tokenizer.json tokenizer_config.json vocab.json
""".split()
NETWORK_NEEDED = sorted(name for name in NETWORK_FILES if name.endswith((".json", ".txt", ".safetensors")))


def test_a_network_is_its_settings_and_its_only_safetensors_with_its_configuration_last() -> None:
    found = needed_files(MODELS["clip"], [*NETWORK_FILES, "onnx/model.onnx", "onnx/config.json"])
    assert sorted(found) == NETWORK_NEEDED and found[-1] == "config.json"
    for lost in ("config.json", "preprocessor_config.json", "model.safetensors"):
        with pytest.raises(InputError, match=f"openai/clip-vit-base-patch32: does not have {lost}"):
            needed_files(MODELS["clip"], [path for path in NETWORK_FILES if path != lost])


def test_of_a_network_that_is_a_pickle_nothing_is_fetched(hub, tmp_path, refused) -> None:
    repository = MODELS["ast"].repository
    paths = ("config.json", "preprocessor_config.json", "pytorch_model.bin")
    hub.repositories[repository] = {path: content(path) for path in paths}
    line = refused("ast", "--to", tmp_path, "--yes")
    assert f"{repository}: does not have model.safetensors, only pytorch_model.bin; no pickle is fetched" in line
    assert hub.received() == [] and os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["folder", "cache"])
def test_a_network_comes_from_the_commit_whose_weights_are_safetensors(place, hub, tmp_path, capsys) -> None:
    clip = MODELS["clip"]
    newest = {path: content(path) for path in NETWORK_FILES if path != "model.safetensors"}
    hub.repositories[clip.repository] = newest
    hub.others[clip.repository, clip.commit] = {path: content(path) for path in NETWORK_FILES}
    fetched("clip", *(["--to", tmp_path] if place == "folder" else []))
    out = capsys.readouterr().out
    assert f"{clip.repository}, for which the hub names no licence; what holds is on {hub.url}/{clip.repository}" in out
    assert f"commit {clip.commit}" in out
    folder = Path(out.splitlines()[-1])
    assert folder.name == ("clip-vit-base-patch32" if place == "folder" else clip.commit)
    assert published(folder) == {path: content(path) for path in NETWORK_NEEDED}


def test_a_hub_that_answers_with_another_commit_is_refused(hub, hub_cache, refused) -> None:
    hub.page = json.dumps({"id": MODELS["clip"].repository, "sha": "0" * 40, "siblings": []}).encode()
    assert f"{'0' * 40} where {MODELS['clip'].commit} was asked for" in refused("clip", "--yes")


def test_networks_that_were_fetched_measure_a_folder_of_clips(hub, tmp_path, capsys) -> None:
    """Small networks of the real classes under their published names; experts in the same folder do not disturb."""
    models, clips = tmp_path / "models", tmp_path / "clips"
    networks = write_all(tmp_path / "saved")
    names = ("videomae", "clip", "clap", "ast", "wav2vec2")
    for name in names:
        model = MODELS[name]
        files = {path.name: path.read_bytes() for path in (networks / name).iterdir()}
        hub.cards[model.repository] = {"license": f"the-licence-of-{name}"}
        hub.repositories[model.repository] = files if model.commit is None else {"README.md": b""}
        if model.commit:
            hub.others[model.repository, model.commit] = files
    fetched("svd", *names, "--to", models)
    assert [line for line in capsys.readouterr().out.splitlines() if "the-licence-of-clap" in line]
    for index in range(3):
        clip = video(clips / f"{index}.mp4")
        clip.with_suffix(".txt").write_text(f"a bell {index}")
    scores = tmp_path / "out.json"
    assert main(["evaluate", str(clips), "--features", str(models), "--json", str(scores), "--quiet"]) == 0
    report = json.loads(scores.read_text())
    assert {each["name"] for each in report["networks"]} == {MODELS[name].name for name in names}
    assert {each["sha256"] for each in report["networks"]} == {
        digest("model.safetensors", (networks / name / "model.safetensors").read_bytes()) for name in names
    }
    assert {"text with frames", "text with sound", "inception score, in one"} <= {
        row["measure"] for row in report["table"]
    }
