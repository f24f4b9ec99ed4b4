"""Videos to latents to train on."""

from __future__ import annotations

import logging
from pathlib import Path

from ...jointdit.datasets.recordings import find_recordings
from ...jointdit.errors import InputError
from ...jointdit.train.write_cache import write_cache
from .. import places
from ..shape import clip_shape
from .memory import CONDITIONING, ManagedModel

logger = logging.getLogger(__name__)
TRAINING = "train"  # the split
CHUNK = 8  # frames that the autoencoder sees at once


def cache_latents(
    model: ManagedModel,
    videos: str,
    layout: str,
    name: str,
    width: int,
    height: int,
    frames: int,
    fps: float,
) -> tuple[Path, str]:
    """The folder of the cache, and what is in it and was left out, in words."""
    pipe, folder = model.pipe, places.cache_folder(name)
    shape = clip_shape(pipe, width, height, frames, fps)
    recordings = find_recordings(places.find_videos(videos), layout)
    split = TRAINING if any(recording.split == TRAINING for recording in recordings) else None
    if split:  # what judges a model must not train it
        recordings = [recording for recording in recordings if recording.split == split]
    factor = pipe.layout.video_factor
    memory = model.decode_memory(shape.height // factor, shape.width // factor, CHUNK)
    progress = model.start((*CONDITIONING, "audio_vae"), len(recordings), memory)
    written = write_cache(pipe, recordings, folder, shape, split=split, progress=progress)
    report = "\n".join(
        [
            f"{written.clips} clips of {len(recordings) - len(written.skipped)} files",
            *(f"left out: {reason}" for reason in written.skipped.values()),
        ]
    )
    logger.info("JointDiT: %s: %s", folder, report)
    if not written.clips:
        raise InputError(f"{videos}: not one clip could be used; {'; '.join(report.splitlines()[1:4])}")
    return folder, report
