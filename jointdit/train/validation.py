"""What a validation measures, on recordings that are never trained on: losses, gain and samples."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from ..errors import InputError
from ..media import read_clip
from ..pipeline import JointDiTPipeline
from .cache import LatentCache
from .gain import Gain, measure_gain
from .objective import JointObjective, Losses
from .run_folder import RunLog
from .stages import TrainingConfig

logger = logging.getLogger(__name__)
PATIENCE = 0.2  # part of the run after which Joint Blocks should have gained something
LEVELS = 5  # bins of noise levels in the logs


def hold_out(names: Sequence[str], count: int) -> tuple[list[int], list[int]]:
    """Numbers of at least `count` clips that are never trained on, and of the others.

    Recordings stay whole: the last one that is held out may bring more clips than asked. Which ones are held out
    follows from their names, not from their order.
    Raises InputError if that leaves nothing to train on.
    """
    recordings: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        recordings.setdefault(name.rpartition("#")[0], []).append(number)
    order = sorted(recordings, key=lambda recording: hashlib.sha256(recording.encode()).digest())
    held_out: list[int] = []
    while order and len(held_out) < count:
        held_out += recordings[order.pop(0)]
    if not order:
        raise InputError(
            f"held_out is {count}, which leaves none of the {len(names)} clips of {len(recordings)} recording(s) to "
            "train on, because recordings are held out whole; lower it, or cache more recordings"
        )
    return held_out, sorted(number for recording in order for number in recordings[recording])


@dataclass(frozen=True)
class Validation:
    """Measures of the weights that the model has, in evaluation mode.

    clips: numbers of the held-out clips.    losses: of clips with their draws at a step (`Engine.losses`).
    """

    pipe: JointDiTPipeline
    objective: JointObjective
    cache: LatentCache
    config: TrainingConfig
    accelerator: Accelerator
    clips: Sequence[int]
    losses: Callable[[Sequence[int], int], Losses]

    @torch.no_grad()
    def held_out_losses(self, batch: int) -> dict[str, float]:
        """Losses of the held-out clips, `batch` at once, by modality and by noise level (0 is clean)."""
        parts = [self.clips[first : first + batch] for first in range(0, len(self.clips), batch)]
        found = [self.losses(part, -1) for part in parts]
        clock = self.objective.denoiser.clock
        scores: dict[str, float] = {}
        for name in ("video", "audio"):
            losses = torch.cat([getattr(each, name) for each in found]).cpu()
            if name == "video":
                u = clock.video_u(torch.cat([each.levels.video_sigma for each in found]).cpu())
            else:
                u = clock.audio_u(torch.cat([each.levels.audio_timestep for each in found]).cpu())
            scores[name] = losses.mean().item()
            for level in range(LEVELS):
                inside = (u * LEVELS).long().clamp(0, LEVELS - 1) == level
                if inside.any():
                    scores[f"{name}_{level / LEVELS:.1f}"] = losses[inside].mean().item()
        return scores

    def gain(self, step: int, batch: int) -> Gain:
        """What the Joint Blocks gain on the held-out clips (gain.py), with a warning once they should and do not."""
        config = self.config
        with self.accelerator.autocast():
            gain = measure_gain(self.objective, self.cache, self.clips, batch, self.accelerator.device)
        expected = config.stage == "a" and config.isolated < 1 and step >= PATIENCE * config.steps
        if expected and gain.nothing and self.accelerator.is_main_process:
            logger.warning(
                "step %d: the sound gains nothing from its picture (%.4f, standard error %.4f). Is rate %g too low or "
                "too high, are there too few clips, or do their sounds not come from what is seen?",
                step,
                *gain.of("audio"),
                config.rate,
            )
        return gain

    def sample(self, step: int, log: RunLog | None) -> dict[str, float]:
        """Clips of held-out pictures and captions, into `samples/STEP`, with their sync plots, and their scores.

        Processes share the work. log: of the main process, which alone gets the scores.
        """
        from ..evaluate import draw_sync
        from ..evaluate.plot import write_png
        from .samples import sample_clips, sync_scores

        accelerator, numbers = self.accelerator, self.clips[: self.config.samples]
        folder = self.config.output / "samples" / f"{step:07d}"
        folder.mkdir(parents=True, exist_ok=True)
        paths = {number: folder / f"{place:03d}.mp4" for place, number in enumerate(numbers)}
        mine = numbers[accelerator.process_index :: accelerator.num_processes]
        clips = sample_clips(self.pipe, self.objective, self.cache, mine, accelerator.device, accelerator.autocast)
        for number, clip in zip(mine, clips, strict=True):
            clip.save(paths[number])
            write_png(paths[number].with_suffix(".png"), draw_sync(clip, self.cache.captions[number]))
        accelerator.wait_for_everyone()
        if log is None:
            return {}
        made = {path.stem: read_clip(path) for path in paths.values()}
        for name, clip in made.items():
            log.clip(step, name, clip)
        return sync_scores(list(made.values()))
