"""Noise levels: one shared level u for both modalities, the draws of training and the grids of sampling.

A level is carried as the video's sigma and the audio's table index t. u is derived from them in float64 on the host: in
float32 a round trip would err by 2e-4 at the ends.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from torch import Tensor

from ..errors import InputError

SHARED, INDEPENDENT = 0.5, 0.35  # shares of the training draws; one modality is clean in the rest

JUMP = 2.0  # times as long, in ln sigma, as the step before it: what lies in between is left out on purpose
TRAILING_SIGMA = 1.0  # of the video: below it, all that happens is decided

CONSISTENCY_LEVELS = 40  # that published consistency models of Stable Video Diffusion were distilled on
KARRAS_RHO = 7.0  # of 2206.00364, as in diffusers' schedulers

AudioGrid = Literal["even", "coupled", "trailing"]
Modality = Literal["video", "audio"]


@dataclass(frozen=True)
class Levels:
    """Noise of the pair, float32 [B], or [1] for all samples: the video's sigma, and the audio's t with its sigma."""

    video_sigma: Tensor
    audio_timestep: Tensor
    audio_sigma: Tensor

    def select(self, index: Tensor) -> Levels:
        """The samples `index` [P] on its device; [1] becomes [P]."""

        def take(level: Tensor) -> Tensor:
            level = level.to(index.device)
            return level.expand(len(index)) if len(level) == 1 else level.index_select(0, index)

        return Levels(take(self.video_sigma), take(self.audio_timestep), take(self.audio_sigma))


@dataclass(frozen=True)
class StepLevels(Levels):
    """The levels [1] at which a step of sampling starts.

    audio_rests: the audio stays at its level in this step, so that nobody needs it guided.
    """

    audio_rests: bool


@dataclass(frozen=True, eq=False)
class SamplingGrid:
    """Falling levels of N video steps, each of n audio sub-steps; float64 on the host.

    video_sigmas: [N + 1].    audio_timesteps, audio_sigmas: [n N + 1]; audio interval n i is the first of video step i.
    """

    video_sigmas: Tensor
    audio_timesteps: Tensor
    audio_sigmas: Tensor

    @property
    def steps(self) -> int:
        """N."""
        return len(self.video_sigmas) - 1

    @property
    def substeps(self) -> int:
        """n."""
        return (len(self.audio_sigmas) - 1) // self.steps

    def levels(self, step: int, substep: int = 0) -> StepLevels:
        """Where video step `step` and its audio sub-step `substep` start."""
        audio = step * self.substeps + substep
        found = (self.video_sigmas[step], self.audio_timesteps[audio], self.audio_sigmas[audio])
        ahead = self.audio_sigmas[audio : (step + 1) * self.substeps + 1]
        rests = bool((ahead == ahead[0]).all())
        video, timestep, sigma = (level.reshape(1).float() for level in found)
        return StepLevels(video, timestep, sigma, rests)


class NoiseClock:
    """Both modalities' noise on one clock u in [0, 1], read from the configs of diffusers' schedulers.

    Video: sigma(u) = exp(p_mean + p_std * Phi^-1(u)) within the scheduler's range; the default numbers are those of the
    finetunes of Stable Video Diffusion. Audio: t(u) = floor(u T), at most T - 1, and u T - 1/2 when sampling; its sigma
    is sqrt((1 - a) / a) of the table of cumulated alphas. "Clean" is sigma_min and t = 0.
    """

    def __init__(
        self,
        video_scheduler: EulerDiscreteScheduler,
        audio_scheduler: DDIMScheduler,
        p_mean: float = 0.7,
        p_std: float = 1.6,
    ) -> None:
        _require(video_scheduler, prediction_type="v_prediction")
        _require(
            audio_scheduler,
            prediction_type="epsilon",
            clip_sample=False,
            thresholding=False,
            set_alpha_to_one=False,
        )
        self.sigma_min, self.sigma_max = (video_scheduler.config[name] for name in ("sigma_min", "sigma_max"))
        if self.sigma_min is None or self.sigma_max is None:
            raise InputError(
                f"video scheduler: sigma_min {self.sigma_min}, sigma_max {self.sigma_max}; both are needed"
            )
        # Copies: making a grid sets timesteps on a scheduler.
        self._video_scheduler = copy.deepcopy(video_scheduler)
        self._audio_scheduler = copy.deepcopy(audio_scheduler)
        alphas = audio_scheduler.alphas_cumprod.to("cpu", torch.float64)
        self._log_table = 0.5 * ((1 - alphas) / alphas).log()
        self.p_mean, self.p_std = p_mean, p_std

    @property
    def audio_steps(self) -> int:
        """T, the length of the audio table."""
        return len(self._log_table)

    def video_sigma(self, u: Tensor) -> Tensor:
        """u, float64 of any shape -> sigma."""
        return (self.p_mean + self.p_std * torch.special.ndtri(u)).exp().clamp(self.sigma_min, self.sigma_max)

    def video_u(self, sigma: Tensor) -> Tensor:
        """The inverse of `video_sigma`; a sigma outside the scheduler's range, 0 too, counts as its nearest end."""
        log_sigma = sigma.double().clamp(self.sigma_min, self.sigma_max).log()
        return torch.special.ndtr((log_sigma - self.p_mean) / self.p_std)

    def audio_timestep(self, u: Tensor) -> Tensor:
        """u -> t, a whole number, as in training."""
        return (u * self.audio_steps).floor().clamp(0, self.audio_steps - 1)

    def audio_position(self, u: Tensor) -> Tensor:
        """u -> fractional t, as in sampling: index t stands for u from t / T to (t + 1) / T, so for their middle."""
        return (u * self.audio_steps - 0.5).clamp(0, self.audio_steps - 1)

    def audio_u(self, timestep: Tensor) -> Tensor:
        """The inverse of `audio_position`."""
        return (timestep.double() + 0.5) / self.audio_steps

    def audio_sigma(self, timestep: Tensor) -> Tensor:
        """t -> sigma; in between, ln sigma is linear in t, as in EulerDiscreteScheduler's way from sigma to t."""
        low = timestep.double().floor().long().clamp(max=self.audio_steps - 2)
        return torch.lerp(self._log_table[low], self._log_table[low + 1], timestep.double() - low).exp()

    def levels(self, video_sigma: Tensor, audio_timestep: Tensor) -> Levels:
        """The pair of levels from both in float64."""
        sigma = self.audio_sigma(audio_timestep)
        return Levels(video_sigma.float(), audio_timestep.float(), sigma.float())

    def sample_levels(self, batch: int, generator: torch.Generator) -> Levels:
        """Training draws [B]: one u for both, independent ones, or one modality clean, so that samplers only meet pairs
        of levels that the model knows."""
        kind, video, audio, side = torch.rand(4, batch, generator=generator, dtype=torch.float64)
        audio = torch.where(kind < SHARED, video, audio)
        clean = kind >= SHARED + INDEPENDENT
        video = torch.where(clean & (side < 0.5), 0.0, video)
        audio = torch.where(clean & (side >= 0.5), 0.0, audio)
        return self.levels(self.video_sigma(video), self.audio_timestep(audio))

    def grid(
        self,
        steps: int | None = None,
        sigmas: Tensor | None = None,
        audio: AudioGrid | Tensor = "even",
        audio_substeps: int = 1,
        hold: Modality | None = None,
        audio_start: float | None = None,
    ) -> SamplingGrid:
        """The levels of a sampling run.

        steps: EulerDiscreteScheduler's own sigmas (Karras for Stable Video Diffusion), or sigmas: any falling [N + 1].
        audio: "even", DDIMScheduler's own timesteps and then 0; "coupled", from the video's sigmas through u, with
        sub-steps even in between; "trailing", which stands at its first timestep until the video's sigma is at most
        `TRAILING_SIGMA` and then falls evenly; or the timesteps [n N + 1] themselves, which never rise. DDIM's rounding
        makes many steps that do not divide T start lower: 200 at t = 996, but 175 at 871.
        audio_start: the first timestep of an even or trailing grid, instead of DDIMScheduler's or T - 1.
        hold: this modality is given and stays clean: its grid stands still.
        Raises InputError if the values do not make a grid.
        """
        if audio_substeps < 1:
            raise InputError(f"audio sub-steps {audio_substeps}: give at least 1")
        if audio_start is not None and not 0 < audio_start <= self.audio_steps - 1:
            raise InputError(f"audio_start {audio_start}: give a timestep above 0 and at most {self.audio_steps - 1}")
        if steps is not None and sigmas is None:
            video = self._karras(steps)
        elif sigmas is not None and steps is None:
            video = _falling("sigmas", sigmas, torch.inf)
        else:
            raise ValueError(f"steps {steps}, sigmas {sigmas}: give one of them")
        count = len(video) - 1
        if isinstance(audio, Tensor):
            timesteps = _falling("audio timesteps", audio, self.audio_steps - 1, may_rest=True)
            if (len(timesteps) - 1) % (count * audio_substeps):
                raise InputError(
                    f"audio timesteps: {len(timesteps)} values do not fit {count} video steps of {audio_substeps} "
                    f"audio sub-steps; give {count * audio_substeps + 1}"
                )
        elif audio == "coupled":
            corners = self.audio_position(self.video_u(video))
            position = torch.arange(count * audio_substeps + 1, dtype=torch.float64) / audio_substeps
            low = position.floor().long().clamp(max=count - 1)
            timesteps = torch.lerp(corners[low], corners[low + 1], position - low)
        elif audio == "even":
            intervals = count * audio_substeps
            timesteps = self._even(intervals) if audio_start is None else torch.linspace(audio_start, 0, intervals + 1)
        elif audio == "trailing":
            start = float(self.audio_steps - 1 if audio_start is None else audio_start)
            waiting = min(int((video > TRAILING_SIGMA).sum()), count - 1)
            falling = torch.linspace(start, 0, (count - waiting) * audio_substeps + 1)
            timesteps = torch.cat((torch.full((waiting * audio_substeps,), start), falling))
            if hold == "video":  # there is nothing to wait for
                video, timesteps = video[waiting:], falling
        else:
            raise InputError(f"audio grid {audio!r}: give {', '.join(get_args(AudioGrid))} or the timesteps themselves")
        timesteps = timesteps.double()
        if hold == "video":
            video = torch.full_like(video, self.sigma_min)
        elif hold == "audio":
            timesteps = torch.zeros_like(timesteps)
        return SamplingGrid(video, timesteps, self.audio_sigma(timesteps))

    def consistency_sigmas(self, steps: int) -> Tensor:
        """The video's levels of a consistency model, [steps + 1]: of the `CONSISTENCY_LEVELS` Karras levels that it was
        distilled on, every so many from the highest on, and 0. As AnimateLCM-SVD (2402.00769) was published.

        Raises InputError for more steps than there are levels.
        """
        if not 1 <= steps <= CONSISTENCY_LEVELS:
            raise InputError(f"steps {steps}: consistency models take 1 to {CONSISTENCY_LEVELS}, best 4 to 8")
        places = torch.arange(steps, dtype=torch.float64) * (CONSISTENCY_LEVELS // steps) / (CONSISTENCY_LEVELS - 1)
        low, high = self.sigma_min ** (1 / KARRAS_RHO), self.sigma_max ** (1 / KARRAS_RHO)
        return torch.cat(((high + places * (low - high)) ** KARRAS_RHO, torch.zeros(1)))

    def _karras(self, steps: int) -> Tensor:
        if steps < 1:
            raise InputError(f"steps {steps}: give at least 1")
        self._video_scheduler.set_timesteps(steps)
        return self._video_scheduler.sigmas.double()

    def _even(self, steps: int) -> Tensor:
        if steps >= self.audio_steps:
            raise InputError(f"{steps} audio steps (steps times sub-steps): give at most {self.audio_steps - 1}")
        self._audio_scheduler.set_timesteps(steps)
        return torch.cat((self._audio_scheduler.timesteps, torch.zeros(1))).double()


def resample(sigmas: Tensor, steps: int) -> Tensor:
    """A model's own noise levels [M + 1] for another number of steps: [steps + 1], same ends and same shape.

    A jump (`JUMP`) stays one step, as does the step to 0. The others are shared out as the model's are, with new levels
    even in ln sigma between the model's. With no steps left for others, whole levels of the model are taken.
    Raises InputError for less than one step.
    """
    if steps < 1:
        raise InputError(f"steps {steps}: give at least 1")
    levels = sigmas.double()
    count = len(levels) - 1
    lengths = -levels.log().diff()
    whole = 1 + (lengths[1:] > JUMP * lengths[:-1]).nonzero().flatten()
    if steps <= len(whole):
        return sigmas[torch.linspace(0, count, steps + 1).round().long()]
    firsts, lasts = torch.cat((whole.new_zeros(1), whole + 1)), torch.cat((whole, whole.new_tensor([count])))
    others = ((lasts - torch.arange(len(lasts))) * (steps - len(whole)) / (count - len(whole))).round().long()
    runs = zip(firsts.tolist(), lasts.tolist(), others.diff(prepend=others.new_zeros(1)).tolist(), strict=True)
    places = torch.cat([torch.linspace(first, last, n + 1, dtype=torch.float64) for first, last, n in runs])
    low = places.long()
    between = torch.lerp(levels.log()[low], levels.log()[(low + 1).clamp(max=count)], places - low).exp()
    return torch.where(places == low, levels[low], between).to(sigmas.dtype)


def _require(scheduler: EulerDiscreteScheduler | DDIMScheduler, **expected: object) -> None:
    for name, value in expected.items():
        found = scheduler.config[name]
        if found != value:
            raise InputError(f"{type(scheduler).__name__}: {name} is {found!r}; this model needs {value!r}")


def _falling(name: str, values: Tensor, highest: float, may_rest: bool = False) -> Tensor:
    values = values.detach().to("cpu", torch.float64)
    if values.ndim != 1 or len(values) < 2:
        raise InputError(f"{name}: shape {list(values.shape)}; give a list of at least two")
    steps = values.diff()
    falls = (steps <= 0).all() and values[-1] < values[0] if may_rest else (steps < 0).all()
    if not (values.isfinite().all() and values[-1] >= 0 and values[0] <= highest and falls):
        limit = "" if math.isinf(highest) else f" from at most {highest:g}"
        raise InputError(f"{name} {values.tolist()}: give values that fall{limit} and end at 0 or above")
    return values
