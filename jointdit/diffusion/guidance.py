"""JointCFG: which predictions of the joint model a step needs, and how they become one.

Every mode is a sum of clean estimates whose weights add up to 1. With c: all conditions, "none": no picture and the
negative or empty text, iso: the modalities do not see each other:

    cfg             D(none) + s (D(c) - D(none))                                     2207.12598
    joint-cfg       D_iso(none) + w (D(c) - D_iso(none))                             JointDiT (CVPR 2025), as we read it
    joint-cfg-star  D_iso(none) + s (D_iso(c) - D_iso(none)) + w (D(c) - D_iso(c))   our reading of its extension

s: how strongly the conditions are obeyed. w: how strongly the modalities agree. 1 is neutral and costs nothing: a
prediction whose weights are zero is not computed. Nor is one computed twice: in an isolated run D is D_iso, and every
mode takes two predictions at most.

To the video, all three modes add (p - 1) (D(c) - D(picture)), where "picture" keeps the picture and has the negative or
empty text. p: how strongly the video obeys its prompt, whatever the picture says, as the text's scale of 2211.09800.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..errors import InputError
from ..latents import JointLatents
from ..models.model import Conditioning
from .denoiser import JointDenoiser, Pass
from .modes import DEFAULTS, HIGHEST, TWINS
from .samplers import AudioDenoise
from .schedules import Levels, StepLevels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JointCFG:
    """Guidance of one run. A scale that is left out, or rescale, is the model's own (`filled_from`), or else the mode's
    default (`DEFAULTS`). 1 is the neutral scale.

    mode: none, cfg, joint-cfg or joint-cfg-star.
    video_scale, audio_scale: s.    video_joint_scale, audio_joint_scale: w; joint_scale sets both.
    video_scale_start: the video's s (w in joint-cfg) at the first frame, from where it rises linearly to the last, as
    in Stable Video Diffusion. A given video scale without a given start is the same for all frames.
    video_prompt_scale: p, of all frames.
    interval: lowest and highest video sigma at which guidance acts, on both modalities (2404.07724). A held video is
    always at the lowest sigma of all.    prompt_interval: where in it p acts.
    rescale: 0 to 1, how far the standard deviation of the result is brought back to that of D(c) (2305.08891); the
    default is 0. video_rescale: the video's alone, in place of it.
    Raises InputError for an unknown mode, a value out of range, and a scale that the mode does not have.
    """

    mode: str = "joint-cfg-star"
    video_scale: float | None = None
    audio_scale: float | None = None
    joint_scale: float | None = None
    video_joint_scale: float | None = None
    audio_joint_scale: float | None = None
    video_scale_start: float | None = None
    video_prompt_scale: float | None = None
    interval: tuple[float, float] | None = None
    prompt_interval: tuple[float, float] | None = None
    rescale: float | None = None
    video_rescale: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in DEFAULTS:
            raise InputError(f"guidance mode {self.mode!r}: give one of {', '.join(DEFAULTS)}")
        for name, value in self._given().items():
            shared = name == "joint_scale" and "video_joint_scale" in DEFAULTS[self.mode]
            if name not in DEFAULTS[self.mode] and not shared:
                raise InputError(f"{name} {value}: guidance mode {self.mode} has none; leave it out")
            if not 0 <= value <= HIGHEST:
                raise InputError(f"{name} {value}: give a number from 0 to {HIGHEST:g}; 1 is neutral")
        for name, value in self._given_rescale().items():
            if not 0 <= value <= 1:
                raise InputError(f"{name} {value}: give a number from 0 to 1")
        for name in ("interval", "prompt_interval"):
            pair = getattr(self, name)
            if pair is not None and not (len(pair) == 2 and 0 <= pair[0] < pair[1] < math.inf):
                raise InputError(f"{name} {pair}: give a lower and a higher video sigma")

    def changed(self, **given: Any) -> JointCFG:
        """This guidance with some fields given anew; what is given for both modalities, or for all frames, takes the
        place of what it stands for.

        Another mode keeps all that it has too. A scale that only the other mode has starts at its twin's value (s at
        that of w and the reverse), because joint-cfg is joint-cfg-star with s = w. So joint-cfg-star makes the same
        clip as joint-cfg until s or w is given, and cfg guides as strongly.
        """
        if given.get("mode", self.mode) != self.mode:
            mode = given.pop("mode")
            own = self._spelled_out()
            scales = {name: own.get(name, own.get(TWINS.get(name, name))) for name in DEFAULTS.get(mode, ())}
            kept = {"interval": self.interval, "prompt_interval": self.prompt_interval, **self._given_rescale()}
            return JointCFG(mode, **scales, **kept).changed(**given)
        replaced = {
            "joint_scale": ("video_joint_scale", "audio_joint_scale"),
            "video_scale": ("video_scale_start",),
            "rescale": ("video_rescale",),
        }
        cleared = {name: None for key in given for name in replaced.get(key, ())}
        return replace(self, **{**cleared, **given})

    def filled_from(self, own: JointCFG) -> JointCFG:
        """This guidance with the scales and rescale that it leaves out from a model's own."""
        given: dict[str, Any] = self._spelled_out() | self._given_rescale()
        if self.prompt_interval is not None:
            given["prompt_interval"] = self.prompt_interval
        return own.changed(mode=self.mode, interval=self.interval, **given)

    def warn_beyond(self, lowest: float, highest: float) -> None:
        """Logs a warning if a scale is outside of what a model was made for."""
        beyond = [f"{name} {value:g}" for name, value in self.scales.items() if not lowest <= value <= highest]
        if beyond:
            logger.warning(
                "%s: this model was made for guidance scales from %g to %g; beyond, clips fade, burn or lose sync",
                ", ".join(beyond),
                lowest,
                highest,
            )

    @property
    def scales(self) -> dict[str, float]:
        """All scales of the mode as they hold, by the names in `DEFAULTS`."""
        given = self._spelled_out()
        rising = "video_joint_scale" if self.mode == "joint-cfg" else "video_scale"
        if rising in given:
            given.setdefault("video_scale_start", given[rising])
        return {**DEFAULTS[self.mode], **given}

    def weights(self, video_sigma: float, frames: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The predictions that a step needs, "c" first, each with its weights: video [F, 1, 1, 1] and audio [].

        Outside the interval "c" is alone. What `prompt_weight` adds is not among them.
        """
        if self.mode == "none" or not _within(video_sigma, self.interval):
            return {"c": (torch.ones(frames, 1, 1, 1), torch.ones(()))}
        scales = {name: torch.tensor(float(value)) for name, value in self.scales.items()}
        # joint-cfg is joint-cfg-star with one number for both.
        neutral = torch.ones(())
        w_video, w_audio = (scales.get(f"{kind}_joint_scale", neutral) for kind in ("video", "audio"))
        s_video, s_audio = scales.get("video_scale", w_video), scales.get("audio_scale", w_audio)
        s_video = rearrange(torch.linspace(scales["video_scale_start"], s_video, frames), "f -> f 1 1 1")
        if self.mode == "cfg":
            video, audio = ({"c": s, "none": 1 - s} for s in (s_video, s_audio))
        else:
            w_video = s_video if self.mode == "joint-cfg" else w_video.expand_as(s_video)
            video, audio = (
                {"c": w, "iso": s - w, "iso_none": 1 - s} for s, w in ((s_video, w_video), (s_audio, w_audio))
            )
        return {name: (video[name], audio[name]) for name in video if name == "c" or video[name].any() or audio[name]}

    def prompt_weight(self, video_sigma: float) -> float:
        """p - 1 at this noise level: what D(c) - D(picture) of the video is multiplied by."""
        acts = _within(video_sigma, self.interval) and _within(video_sigma, self.prompt_interval)
        return self.scales.get("video_prompt_scale", 1.0) - 1 if acts else 0.0

    def combine(self, predictions: Sequence[Tensor], weights: Sequence[Tensor], rescale: float | None) -> Tensor:
        """The weighted sum of clean estimates [B, ...] of one modality, "c" first, rescaled."""
        terms = [weight.to(each.device) * each for weight, each in zip(weights, predictions, strict=True)]
        result = sum(terms[1:], terms[0])
        if not rescale or len(predictions) == 1:
            return result
        axes = tuple(range(1, result.ndim))
        ratio = predictions[0].std(axes, keepdim=True) / result.std(axes, keepdim=True)
        return result * (1 + rescale * (ratio - 1))  # exact where nothing is to be brought back

    def denoiser(
        self,
        joint: JointDenoiser,
        conditioning: Conditioning,
        negative: Conditioning | None = None,
        picture: Conditioning | None = None,
    ) -> GuidedDenoiser:
        """The joint denoiser under this guidance, for a sampler; see there."""
        return GuidedDenoiser(joint, self, conditioning, negative, picture)

    def _given(self) -> dict[str, float]:
        names = [field.name for field in fields(self) if field.name.endswith(("_scale", "_start"))]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _given_rescale(self) -> dict[str, float]:
        both = {"rescale": self.rescale, "video_rescale": self.video_rescale}
        return {name: value for name, value in both.items() if value is not None}

    def _spelled_out(self) -> dict[str, float]:
        """The scales that are given, by the names in `DEFAULTS`."""
        given = self._given()
        if "joint_scale" in given:
            shared = given.pop("joint_scale")
            given = {"video_joint_scale": shared, "audio_joint_scale": shared} | given
        return given


class GuidedDenoiser:
    """The joint denoiser under guidance, as samplers call it.

    conditioning: all conditions of B samples.    negative: no picture and the negative or empty text; only
    `JointCFG(mode="none")` does without.    picture: the picture with the negative or empty text; without it, or where
    that is the same as `conditioning`, the prompt's scale is neutral.
    isolated: the modalities see each other in no prediction.
    """

    def __init__(
        self,
        denoiser: JointDenoiser,
        guidance: JointCFG,
        conditioning: Conditioning,
        negative: Conditioning | None = None,
        picture: Conditioning | None = None,
        isolated: bool = False,
    ) -> None:
        self.denoiser, self.guidance, self.isolated = denoiser, guidance, isolated
        self.picture = [] if picture is None else [Pass(picture, isolated)]
        self.passes = {"c": Pass(conditioning, isolated), "iso": Pass(conditioning, isolated=True)}
        if negative is not None:
            self.passes |= {"none": Pass(negative, isolated), "iso_none": Pass(negative, isolated=True)}
        elif guidance.mode != "none":
            raise ValueError(f"guidance mode {guidance.mode} needs the negative conditioning")

    def __call__(self, x: JointLatents, levels: Levels, keep: bool = False) -> tuple[JointLatents, AudioDenoise | None]:
        """Guided clean estimates of x; with `keep` also a function that estimates the audio again on the same video.
        Audio that rests is not guided."""
        guidance = self.guidance
        video_rescale = guidance.rescale if guidance.video_rescale is None else guidance.video_rescale
        sigma = levels.video_sigma.item()
        weights, prompt_weight = guidance.weights(sigma, frames=x.video.shape[1]), guidance.prompt_weight(sigma)
        if self.isolated:
            weights = _merged(weights)
        if isinstance(levels, StepLevels) and levels.audio_rests:
            weights = _for_the_video(weights)
        video_weights, audio_weights = zip(*weights.values(), strict=True)
        # An isolated prediction that weighs nothing in the video is one of the audio expert, which costs little.
        passes = [
            replace(self.passes[name], audio_only=name.startswith("iso") and not video.any())
            for name, (video, _) in weights.items()
        ]
        passes += self.picture if prompt_weight else []
        found, audio_passes = self.denoiser.denoise(x, levels, passes, keep)
        count = len(weights)
        video = guidance.combine([each.video for each in found[:count]], video_weights, video_rescale)
        for picture in found[count:]:  # after the rescale: what a prompt adds must not dim the picture
            video = video + prompt_weight * (found[0].video - picture.video)
        audio = guidance.combine([each.audio for each in found[:count]], audio_weights, guidance.rescale)
        if audio_passes is None:
            return JointLatents(video, audio), None

        def audio_again(audio: Tensor, levels: Levels) -> Tensor:
            return guidance.combine(audio_passes(audio, levels)[:count], audio_weights, guidance.rescale)

        return JointLatents(video, audio), audio_again


def _within(sigma: float, interval: tuple[float, float] | None) -> bool:
    return interval is None or interval[0] <= sigma <= interval[1]


def _for_the_video(weights: dict[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """The same sum of the video, without predictions that weigh nothing in it; of the audio, "c" alone."""
    return {
        name: (video, torch.ones(()) if name == "c" else torch.zeros(()))
        for name, (video, _) in weights.items()
        if name == "c" or video.any()
    }


def _merged(weights: dict[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """The same sum in an isolated run: "iso" is "c", and "none" is "iso_none"."""
    merged: dict[str, tuple[Tensor, Tensor]] = {}
    for name, (video, audio) in weights.items():
        name = {"iso": "c", "none": "iso_none"}.get(name, name)
        before = merged.get(name)
        merged[name] = (video, audio) if before is None else (before[0] + video, before[1] + audio)
    return merged
