"""How a clip is sampled: what a caller asks for, and what a model does where nothing is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar, get_args

import torch
from torch import Tensor

from ..checked import Between, checked
from ..diffusion import samplers
from ..diffusion.guidance import JointCFG
from ..diffusion.reuse import Reuse
from ..diffusion.schedules import AudioGrid, Modality, NoiseClock, SamplingGrid, resample
from ..diffusion.sync_guidance import SyncGuidance
from ..errors import InputError
from ..media import exact_fps

SAMPLERS = {"euler": samplers.euler, "heun": samplers.heun, "dpmpp_2m": samplers.dpmpp_2m, "lcm": samplers.lcm}
FEW_STEPS = 4  # of a consistency model, where none are given

Side = Annotated[int, Between(1, 4096)]  # of a frame, in pixels

T = TypeVar("T")


def chosen(asked: T | None, own: T) -> T:
    """What is asked for, or the model's own where that is None."""
    return own if asked is None else asked


@dataclass(frozen=True, eq=False)
class SamplingSettings:
    """How to sample. None is the model's own.

    steps: denoising steps of the video, at the model's own noise levels resampled, or else at the scheduler's.
    sigmas: the video's noise levels themselves, high to low, [steps + 1]; instead of steps.
    sampler: one of `SAMPLERS`. "lcm" is for consistency models: it has noise levels of its own (4 where neither steps
    nor sigmas are given), and as many audio sub-steps as make the audio steps of the model's own run.
    guidance: which predictions are combined, and how strongly.
    audio_grid: "even", "coupled", "trailing" or the timesteps themselves (`NoiseClock.grid`).
    audio_substeps: audio steps in each video step.
    video_temperature: 0 to 2, multiplies the video's initial noise (`samplers.initial_noise`).
    fresh_noise: 0 to 1, share of the video's noise that each step replaces (`samplers.FreshNoise`).
    isolated: the modalities never see each other: what the same weights make without their joint attention.
    sync: pulls the sound to when the picture moves, without training; None is off.
    reuse: which evaluations keep what the depth of the video expert found before; None is none, exactly.

    Raises InputError for a value out of range.
    """

    steps: int | None = None
    sigmas: Tensor | Sequence[float] | None = None
    sampler: str = "euler"
    guidance: JointCFG | None = None
    audio_grid: AudioGrid | Tensor | None = None
    audio_substeps: int | None = None
    video_temperature: float | None = None
    fresh_noise: float | None = None
    isolated: bool = False
    sync: SyncGuidance | None = None
    reuse: Reuse | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.sigmas is not None:
            raise InputError(f"steps {self.steps} and sigmas are both given; give one of them")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps {self.steps}: give at least 1")
        if self.sampler not in SAMPLERS:
            raise InputError(f"sampler {self.sampler!r}: give one of {', '.join(SAMPLERS)}")
        if isinstance(self.audio_grid, str) and self.audio_grid not in get_args(AudioGrid):
            raise InputError(f"audio grid {self.audio_grid!r}: give one of {', '.join(get_args(AudioGrid))}")
        if self.audio_substeps is not None and self.audio_substeps < 1:
            raise InputError(f"audio sub-steps {self.audio_substeps}: give at least 1")
        if self.video_temperature is not None and not 0 <= self.video_temperature <= 2:
            raise InputError(
                f"video_temperature {self.video_temperature}: give a number from 0 to 2; 1 is the plain sampler"
            )
        if self.fresh_noise is not None and not 0 <= self.fresh_noise <= 1:
            raise InputError(f"fresh_noise {self.fresh_noise}: give a number from 0 (none) to 1 (all of it)")
        if self.sampler == "lcm" and self.fresh_noise is not None:
            raise InputError(f"fresh_noise {self.fresh_noise}: the sampler lcm replaces all noise anyway; leave it out")

    def changed(self, **given: Any) -> SamplingSettings:
        """These settings with the given fields in place of theirs; a field given as None stays as it is."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def video_levels(self, own: Defaults, clock: NoiseClock) -> tuple[int | None, Tensor | None]:
        """The video's noise levels as `NoiseClock.grid` takes them: a number of steps or the sigmas, the other None."""
        if self.sigmas is not None:
            return None, torch.as_tensor(self.sigmas)
        if self.sampler == "lcm":
            return None, clock.consistency_sigmas(chosen(self.steps, FEW_STEPS))
        if own.sigmas is None:
            return chosen(self.steps, own.steps), None
        sigmas = torch.tensor(own.sigmas)
        return None, sigmas if self.steps is None else resample(sigmas, self.steps)

    def grid(self, own: Defaults, clock: NoiseClock, hold: Modality | None = None) -> SamplingGrid:
        """The noise levels of both modalities. hold: this one is given and stays clean.

        Raises InputError where the values make no grid.
        """
        steps, sigmas = self.video_levels(own, clock)
        substeps = own.audio_substeps
        if self.sampler == "lcm" and sigmas is not None:
            substeps = math.ceil(own.steps * substeps / (len(sigmas) - 1))
        return clock.grid(
            steps,
            sigmas,
            audio=chosen(self.audio_grid, own.audio_grid),
            audio_substeps=chosen(self.audio_substeps, substeps),
            hold=hold,
            audio_start=own.audio_start if self.audio_grid is None else None,
        )


@dataclass(frozen=True)
class Defaults:
    """What a model does where the caller says nothing. Stored in `model_index.json`.

    frames, fps, height, width: shape of a clip.    motion_bucket, noise_augmentation: as in Stable Video Diffusion.
    steps, audio_substeps, video_temperature, fresh_noise, audio_grid: as in `SamplingSettings`.
    around_picture: the video's latents are measured from the picture's instead of from zero, for models that were
    trained so: what is learned is what happens to the picture.
    hold_first_frame: the clip starts with the picture itself, for models that were trained so.
    suggest_beside_video: where there is no prompt, what the first frame suggests stands in for it also beside a given
    video, which shows by itself what happens.
    sigmas: the video's own `steps` noise levels, and 0; None is the scheduler's.
    audio_start: first timestep of this model's own audio grid; None is AudioLDM2's.
    guidance: arguments of `JointCFG`.
    scale_range: lowest and highest scale of guidance that the model was made for; None is any.
    """

    frames: Annotated[int, Between(1, 1000)] = 14
    fps: str = "7"
    height: Side = 320
    width: Side = 576
    motion_bucket: Annotated[float, Between(-1e4, 1e4)] = 127
    noise_augmentation: Annotated[float, Between(0, 100)] = 0.02
    steps: Annotated[int, Between(1, 999)] = 25
    audio_substeps: Annotated[int, Between(1, 100)] = 1
    video_temperature: float = 1.0
    fresh_noise: float = 0.0
    around_picture: bool = False
    hold_first_frame: bool = False
    suggest_beside_video: bool = True
    sigmas: Annotated[list[float], Between(2, 1000)] | None = None
    audio_grid: AudioGrid = "even"
    audio_start: float | None = None
    guidance: dict[str, Any] = field(default_factory=dict)
    scale_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Raises InputError for values that no clip can be sampled with, as a file may have them."""
        exact_fps(self.fps)
        SamplingSettings(
            steps=self.steps,
            guidance=checked(JointCFG, self.guidance, key="guidance"),
            audio_grid=self.audio_grid,
            audio_substeps=self.audio_substeps,
            video_temperature=self.video_temperature,
            fresh_noise=self.fresh_noise,
        )
