"""Many clips with one loaded model: in batches as memory allows, each failure for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .complaints import CORRECTABLE, complaint, is_memory
from .jobs import Job

if TYPE_CHECKING:
    import torch

    from ..latents import ClipShape
    from ..media import Clip
    from ..pipeline import JointDiTPipeline, LongClip

ON_CPU = 4  # clips at once: more is no faster
ON_GPU = 16
PASSES = 4  # of guidance, at most
LATENT_BYTES = 0.03 * 2**20  # that one pass takes for a latent pixel and byte of a number, with room to spare


@dataclass
class Outcome:
    """failures: what was not made, and why."""

    failures: list[tuple[Job, str]] = field(default_factory=list)


def fitting_batch(pipe: JointDiTPipeline, shape: ClipShape, device: torch.device) -> int:
    """How many clips at once are likely to fit and to be worth it; at least 1."""
    import torch

    if pipe.memory.max_batch is not None:
        return 1  # memory is to be saved
    if device.type != "cuda":
        return ON_CPU
    _, frames, _, height, width = pipe.layout.video_shape(shape, 1)
    needed = PASSES * LATENT_BYTES * frames * height * width * pipe.video_unet.dtype.itemsize
    return max(1, min(ON_GPU, int(torch.cuda.mem_get_info(device)[0] / needed)))


def run_batches(
    jobs: Sequence[Job],
    batch: int,
    make: Callable[[Sequence[Job]], Sequence[Clip | LongClip]],
    keep: Callable[[Job, Clip | LongClip], None],
    progress: Callable[[int], None],
) -> Outcome:
    """Makes and keeps every clip that can be made.

    Clips of a batch that fails are made one by one, and where memory ran out the batches are smaller from then on.
    make: the clips of some jobs.    keep: writes one.    progress: called with how many are done or given up.
    """
    outcome, waiting, done = Outcome(), list(jobs), 0
    while waiting:
        group, waiting = waiting[:batch], waiting[batch:]
        for part in _parts(group, make, keep, outcome):
            waiting = [*part, *waiting]
            batch = max(1, batch // 2)
        done = len(jobs) - len(waiting)
        progress(done)
    return outcome


def _parts(
    group: Sequence[Job],
    make: Callable[[Sequence[Job]], Sequence[Clip | LongClip]],
    keep: Callable[[Job, Clip | LongClip], None],
    outcome: Outcome,
) -> list[Sequence[Job]]:
    """Makes a group; what is left to be tried in smaller batches because memory ran out."""
    try:
        clips = make(group)
        for job, clip in zip(group, clips, strict=True):
            keep(job, clip)
        return []
    except CORRECTABLE as error:
        told = complaint(error)
        if told is None:
            raise
        if len(group) > 1 and is_memory(error):
            return [group]
        if len(group) == 1:
            outcome.failures.append((group[0], " ".join(told.split())))
            return []
    return [left for job in group for left in _parts([job], make, keep, outcome)]
