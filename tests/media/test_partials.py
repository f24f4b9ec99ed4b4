"""Files in work: nothing stays behind a process that was killed, and nothing of a living one is touched."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from jointdit.checkpoints.folders import save_components
from jointdit.datasets.recordings import find_recordings
from jointdit.errors import InputError
from jointdit.media import partials
from jointdit.media.files import refuse_sources, target_file, whole_file, write_json
from jointdit.media.partials import LOCK, partial_folder, remove_leftovers

WRITE = """
import sys, time
from jointdit.media import partials
from jointdit.media.files import whole_file
with whole_file(sys.argv[1]) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def writer(path: Path) -> subprocess.Popen[str]:
    """A process that has written half a file and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    return process


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    killed, living = writer(tmp_path / "killed.json"), writer(tmp_path / "living.json")
    with killed:
        killed.send_signal(signal.SIGKILL)
    assert len(os.listdir(tmp_path)) == 2
    write_json(tmp_path / "next.json", {})
    assert len(os.listdir(tmp_path)) == 2, "next.json, and what living writes"
    with living:
        living.communicate("\n", timeout=60)
    assert sorted(os.listdir(tmp_path)) == ["living.json", "next.json"]
    assert (tmp_path / "living.json").read_text() == "half"


def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    def write(number: int) -> None:
        for _ in range(20):
            remove_leftovers.cache_clear()  # as many processes would
            try:
                write_json(tmp_path / "a.json", [number] * 1000)
            except BaseException as error:
                failed.append(error)

    failed: list[BaseException] = []
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [[], [LOCK], ["a.mp4"]], ids=["before its lock", "empty", "while it was removed"])
def test_what_a_kill_left_at_any_moment_is_removed_by_the_next_run(content, tmp_path):
    left = tmp_path / ".jointdit-a.partial"
    left.mkdir()
    for name in content:
        (left / name).touch()
    write_json(tmp_path / "a.json", {})
    assert os.listdir(tmp_path) == ["a.json"]


def test_who_loses_a_folder_before_it_is_locked_works_all_the_same(tmp_path, monkeypatch):
    """A run that starts at this moment takes it for a leftover."""
    make, made = os.mkdir, []

    def mkdir(path: str, *options: object) -> None:
        make(path, *options)
        if len(made) < 3:
            made.append(path)
            remove_leftovers.cache_clear()
            remove_leftovers(tmp_path)
            assert not os.path.exists(path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    write_json(tmp_path / "a.json", {})
    assert os.listdir(tmp_path) == ["a.json"] and made


class Stop(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM."""


def stopped(write: Callable[[], None], moment: int) -> bool:
    """Whether a writer came to a moment, which is counted from 1, and was stopped there: as a function of `partials`
    begins or one that it calls, or as one in C ends. There Python looks for signals."""
    count = 0

    def look(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        frames = {"call": (frame, frame.f_back), "c_return": (frame,)}.get(event, ())
        if any(each is not None and each.f_code.co_filename == partials.__file__ for each in frames):
            count += 1
            if count == moment:
                raise Stop

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        write()
    except Stop:
        pass
    finally:
        sys.setprofile(before)
    return count >= moment


def test_a_signal_at_any_moment_leaves_nothing_in_work(tmp_path):
    moment = 1
    while stopped(lambda: write_json(tmp_path / "a.json", {}), moment):
        gc.collect()
        assert set(os.listdir(tmp_path)) <= {"a.json"}, moment
        moment += 1
    assert moment > 15


def test_videos_in_work_are_no_recordings(tmp_path):
    with partial_folder(tmp_path) as folder:
        (folder / "a.mp4").touch()
        with pytest.raises(InputError, match="no"):
            find_recordings(tmp_path)


def test_a_symbolic_link_is_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.json").symlink_to("there/real.json")
    write_json(tmp_path / "link.json", 1)
    write_json(tmp_path / "link.json", 2)
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "there" / "real.json").read_text() == "2\n"
    (tmp_path / "loop.json").symlink_to("loop.json")
    with pytest.raises(InputError, match="loop.json: cannot be written"):
        target_file(tmp_path / "loop.json")


@pytest.mark.parametrize("name", ["pipe", "link", "/dev/null"])
def test_pipes_and_devices_are_no_targets(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for write in (target_file, lambda path: whole_file(path).__enter__()):
        with pytest.raises(InputError, match="pipe or a device"):
            write(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_that_is_read_is_known_by_every_name(tmp_path):
    source = tmp_path / "a.mp4"
    source.write_bytes(b"video")
    (tmp_path / "link.mp4").symlink_to(source)
    (tmp_path / "hard.mp4").hardlink_to(source)
    (tmp_path / "other.mp4").write_bytes(b"video")
    for name in ("a.mp4", "link.mp4", "hard.mp4", f"../{tmp_path.name}/a.mp4"):
        with pytest.raises(InputError, match="is read"):
            refuse_sources(tmp_path / name, [None, source])
    for name in ("other.mp4", "new.mp4"):
        refuse_sources(tmp_path / name, [None, source, tmp_path / "missing.mp4"])


def test_a_model_folder_is_replaced_whole_or_not_at_all(tmp_path):
    class Broken:
        def save_pretrained(self, folder: Path) -> None:
            folder.mkdir()
            raise OSError(28, "No space left on device")

    save_components(tmp_path / "model", {}, {"version": 1})
    with pytest.raises(OSError):
        save_components(tmp_path / "model", {"vae": Broken()}, {"version": 2})
    assert os.listdir(tmp_path) == ["model"] and '"version": 1' in (tmp_path / "model" / "model_index.json").read_text()
    save_components(tmp_path / "model", {}, {"version": 3})
    assert os.listdir(tmp_path) == ["model"] and '"version": 3' in (tmp_path / "model" / "model_index.json").read_text()
