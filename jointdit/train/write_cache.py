"""Recordings to latents: what `jointdit cache` does.

Every shard is one safetensors file of whole recordings that appears when it is complete, so that a kill loses at most
the shard in work. A recording that any shard holds is not encoded again, whoever wrote it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor

from ..datasets.recordings import Recording, TrainingClip, cut, part_of
from ..datasets.splits import ALL, held_split
from ..encoders.autoencoders import to_model_range
from ..encoders.conditioning import encode_clip_image
from ..errors import InputError
from ..latents import ClipShape
from ..media.files import whole_file, write_json
from ..pipeline import JointDiTPipeline
from .cache import CONFIG, PER_CLIP, TEXT, Encoding, read_split
from .cache_index import Measures, Stamp, held_recordings, read_left_out, read_shards, recording_of, write_left_out
from .decoding import WORKERS, in_order
from .run_folder import locked
from .seeds import generator_of

SHARD_BYTES = 256 * 2**20
SHARD_SECONDS = 600.0  # of work that a kill may cost
CLIPS_AT_ONCE = 4  # of one recording, decoded and encoded together
CAPTIONS_KEPT = 4096  # whose embeddings are not computed again

Measure = Callable[[TrainingClip, ClipShape, int], Measures]


@dataclass(frozen=True)
class Written:
    """What a run of `write_cache` found done and did.

    clips, files: this part's that are in the cache now.    skipped: files left out, with their reasons.
    measured: whether clips were measured, which takes the extra `evaluate`.
    """

    clips: int
    files: int
    skipped: dict[str, str]
    measured: bool


@dataclass(frozen=True, eq=False)
class _Row:
    """A clip as it is stored."""

    name: str
    caption: str
    measures: Measures | None
    tensors: dict[str, Tensor]


@torch.no_grad()
def write_cache(
    pipe: JointDiTPipeline,
    recordings: Sequence[Recording],
    folder: Path,
    shape: ClipShape,
    part: int = 0,
    parts: int = 1,
    shard_bytes: int = SHARD_BYTES,
    workers: int = WORKERS,
    progress: Callable[[int, int], None] | None = None,
    split: str | None = None,
) -> Written:
    """Encodes the recordings whose `part_of` is `part` and that no shard of the folder holds.

    Files that were left out before are tried again if they changed.

    shard_bytes: a shard is complete with so many bytes of latents, or after ten minutes.
    workers: threads that decode while the device encodes; the clips are the same with any number, and with 0.
    progress: called with (recordings done, recordings of this part), first with what was there before. What it raises
    ends the run; whole recordings are kept.
    split: the part of a published set that the recordings are. The cache remembers it, or that it holds a whole set.
    Raises InputError if the folder holds a cache of another encoding or split, or another process encodes this part.
    """
    _claim(folder, Encoding.of(pipe, shape), held_split(split, (recording.split for recording in recordings)))
    name = f"{part:03d}-of-{parts:03d}"
    with locked(folder, f"lock-{name}", f"run of part {part}/{parts}"):
        held, reasons = held_recordings(read_shards(folder)), read_left_out(folder)
        measure = _find_measure()
        mine = [recording for recording in recordings if part_of(recording.name, parts) == part]
        writer = _Writer(pipe, folder, name, shard_bytes)
        skipped: dict[str, str] = {}
        tried_before = {name for name, _ in reasons}
        todo = []
        for recording in mine:
            if recording.name in held:
                continue
            if recording.problem:
                skipped[recording.name] = f"{recording.name}: {recording.problem}"
            elif recording.name in tried_before and (key := (recording.name, Stamp.of(recording.path))) in reasons:
                skipped[recording.name] = writer.left_out[key] = reasons[key]
            else:
                todo.append(recording)

        def clips_of(recording: Recording) -> Iterator[tuple[TrainingClip, Measures | None]]:
            for clip in cut(recording, shape, pipe.layout.sample_rate):
                yield clip, None if measure is None else measure(clip, shape, pipe.layout.sample_rate)

        try:
            with closing(in_order([clips_of(recording) for recording in todo], workers, CLIPS_AT_ONCE)) as decoded:
                for index, (recording, batches) in enumerate(zip(todo, decoded, strict=True)):
                    if progress is not None:
                        progress(len(mine) - len(todo) + index, len(mine))
                    try:
                        rows = [row for batch in batches for row in _encode(pipe, batch)]
                    except InputError as error:
                        skipped[recording.name] = str(error)
                        writer.leave_out(recording, str(error))
                    else:
                        writer.add(recording, rows)
        finally:
            writer.flush()
        if progress is not None:
            progress(len(mine), len(mine))
        ours = {recording.name for recording in mine}
        clips = {name for shard in read_shards(folder) for name in shard.clips if recording_of(name) in ours}
        return Written(len(clips), len(ours - skipped.keys()), skipped, measure is not None)


def _claim(folder: Path, encoding: Encoding, split: str | None) -> None:
    """Writes the folder's configuration, or compares with it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CONFIG
    ours = asdict(encoding) | {"split": split}
    if path.exists():
        there = asdict(Encoding.read(folder)) | {"split": read_split(folder)}
        if there["split"] is None and split == ALL:  # a whole set was not written down once
            write_json(path, there | {"split": ALL})
            there["split"] = ALL
        changed = [f"{key} {old} -> {ours[key]}" for key, old in there.items() if ours[key] != old]
        if changed:
            raise InputError(f"{path}: made with another configuration ({', '.join(changed)}); choose another folder")
        return
    write_json(path, ours)


def _find_measure() -> Measure | None:
    """None where the packages of the extra `evaluate` are missing: a cache can be made without them."""
    try:
        from .measures import measure
    except InputError:
        return None
    return measure


def _encode(pipe: JointDiTPipeline, batch: Sequence[tuple[TrainingClip, Measures | None]]) -> list[_Row]:
    """Clips of one recording. The noise on the picture follows from the clip's name, as everything else does."""
    device, clips = pipe.device, [clip for clip, _ in batch]
    pixels = torch.from_numpy(np.stack([clip.frames for clip in clips])).to(device)
    frames = to_model_range(rearrange(pixels, "b f h w c -> b f c h w"))
    first = frames[:, 0]
    noise = torch.cat([torch.randn(first[:1].shape, generator=generator_of(clip.name)) for clip in clips]).to(device)
    audio = torch.from_numpy(np.stack([clip.audio for clip in clips])).to(device)
    encoded = {
        "video": pipe.video_codec.encode_video(frames),
        "audio": pipe.audio_codec.encode_audio(audio),
        "image_latents": pipe.video_codec.encode_image(first + pipe.defaults.noise_augmentation * noise),
        "image_embeds": encode_clip_image(pipe.feature_extractor, pipe.image_encoder, first),
    }
    stored = {name: tensor.half().cpu() for name, tensor in encoded.items()}
    return [
        _Row(clip.name, clip.caption, measures, {name: tensor[index] for name, tensor in stored.items()})
        for index, (clip, measures) in enumerate(batch)
    ]


class _Writer:
    """Collects whole recordings and writes them as shards.

    part: as in the names of the files.    left_out: files without use, with their reasons.
    """

    def __init__(self, pipe: JointDiTPipeline, folder: Path, part: str, shard_bytes: int) -> None:
        self.folder, self.part, self.shard_bytes = folder, part, shard_bytes
        self.left_out: dict[tuple[str, Stamp], str] = {}
        self._rows: list[_Row] = []
        self._recordings: list[str] = []
        self._bytes, self._since = 0, time.monotonic()
        numbers = [int(path.stem.rpartition("-")[2]) for path in folder.glob(f"shard-{part}-*.safetensors")]
        self._number = max(numbers, default=-1) + 1

        @lru_cache(CAPTIONS_KEPT)
        def text(caption: str) -> dict[str, Tensor]:
            found = pipe.encode_text([caption])
            return {name: getattr(found, name)[0].half().cpu().contiguous() for name in TEXT}

        self._text = text

    def add(self, recording: Recording, rows: Sequence[_Row]) -> None:
        """All clips of a recording."""
        self._rows += rows
        self._recordings.append(recording.name)
        self._bytes += sum(tensor.nbytes for row in rows for tensor in row.tensors.values())
        if self._bytes >= self.shard_bytes or time.monotonic() - self._since >= SHARD_SECONDS:
            self.flush()

    def leave_out(self, recording: Recording, reason: str) -> None:
        """A file that gives no clip."""
        if recording.path.exists():
            self.left_out[recording.name, Stamp.of(recording.path)] = reason

    def flush(self) -> None:
        """Writes what is there."""
        path = self.folder / f"left-out-{self.part}.json"
        if self.left_out or path.exists():
            write_left_out(path, self.left_out)
        if self._rows:
            self._write_shard(self.folder / f"shard-{self.part}-{self._number:05d}.safetensors")
            self._number += 1
        self._rows, self._recordings = [], []
        self._bytes, self._since = 0, time.monotonic()

    def _write_shard(self, path: Path) -> None:
        tensors = {name: torch.stack([row.tensors[name] for row in self._rows]).contiguous() for name in PER_CLIP}
        captions = sorted({row.caption for row in self._rows} | {""})
        for index, caption in enumerate(captions):
            tensors |= {f"text.{index}.{name}": tensor for name, tensor in self._text(caption).items()}
        numbers = {caption: index for index, caption in enumerate(captions)}
        described = {
            "clips": [row.name for row in self._rows],
            "captions": captions,
            "caption": [numbers[row.caption] for row in self._rows],
            "recordings": self._recordings,
            "measures": [row.measures for row in self._rows if row.measures is not None],
        }
        with whole_file(path) as partial:
            save_file(tensors, partial, metadata={"shard": json.dumps(described)})
