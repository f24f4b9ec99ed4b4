"""Every setting of the recipe, with the values that the README's commands use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from ...diffusion.schedules import AudioGrid
from ...errors import InputError
from ...latents import ClipShape
from .training_loop import Budget, Stage


@dataclass(frozen=True, kw_only=True)
class VideoVAEStage(Stage):
    """scenes: kept in memory, with three times as many stills.    batch: frames of half size in a step.
    latent_noise: deviation of the noise on the latents.    latent_penalty: weight of their mean square."""

    budget: Budget = Budget(minutes=25)
    rate: float = 1.5e-4
    scenes: int = 500
    batch: int = 16
    latent_noise: float = 0.05
    latent_penalty: float = 3e-5


@dataclass(frozen=True, kw_only=True)
class AudioVAEStage(Stage):
    """scenes: kept in memory.    batch: whole log-mels of a step.    The others as in `VideoVAEStage`."""

    budget: Budget = Budget(steps=1)
    rate: float = 2e-4
    scenes: int = 400
    batch: int = 8
    latent_noise: float = 0.05
    latent_penalty: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class VocoderStage(Stage):
    """scenes: kept in memory.    audio_vae: folder of an autoencoder whose log-mels are also learned from."""

    budget: Budget = Budget(steps=1)
    rate: float = 6e-4
    scenes: int = 64
    batch: int = 6
    audio_vae: Path | None = None


@dataclass(frozen=True)
class Cache:
    """What `cache` renders and encodes.

    clips: scenes of any effect, from `seed` on.    clips_per_suggestion: for each of so many, one more scene is made
    whose effect is what its picture suggests.    clips_per_shard: of one file.
    clips_per_twins: for each of so many, `colours_per_twins` more scenes are made that differ in a colour alone, from
    `twin_seed` + `seed` on.
    sounds_per_clip: scenes of which the sound alone is kept, from `sound_seed` + `seed` on.
    part: (K, N), so that this process makes every N-th shard from the K-th on.
    """

    clips: int = 6000
    seed: int = 4_000_000
    clips_per_suggestion: int = 5
    clips_per_twins: int = 5
    colours_per_twins: int = 4
    twin_seed: int = 700_000_000
    clips_per_shard: int = 100
    sounds_per_clip: int = 2
    sound_seed: int = 500_000_000
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        part, parts = self.part
        if not 0 <= part < parts:
            raise InputError(f"part {part}/{parts}: give K/N with K from 0 to N - 1")


@dataclass(frozen=True)
class Architecture:
    """Sizes of what stands above the autoencoders.

    video_channels, audio_channels: of the levels of both UNets. A UNet that starts at a linear estimate needs four
    channels in a norm group at the first and last level: 64 of the audio UNet, whose norms have 16 groups.
    video_heads: of the attention of its levels.
    joint_stages: stages of both experts (0 is In) that a Joint Block follows.    joint_pools: for each, how many of its
    video tokens a side become one key.
    latents_per_position: video latents a side that are folded into one position of the UNet.
    picture_size: pixels a side of what the image encoder sees.    vocabulary: tokens that are learned from captions.
    """

    video_channels: tuple[int, int, int] = (64, 128, 128)
    audio_channels: tuple[int, int, int] = (64, 64, 64)
    video_heads: tuple[int, int, int] = (4, 4, 4)
    joint_stages: tuple[int, ...] = (0, 1, 3)
    joint_pools: tuple[int, ...] = (2, 1, 1)
    joint_width: int = 96
    text_width: int = 64
    text_length: int = 24
    image_width: int = 64
    picture_size: int = 64
    latents_per_position: int = 1
    vocabulary: int = 800


@dataclass(frozen=True)
class Sampling:
    """How the finished model samples by default; training draws a part of its noise levels along this path.

    sigmas: of the video. Below 4 the small model leaves more noise than it removes, so the video goes from there to its
    end at once; in the last three steps the sound follows.
    scale_range: of guidance; beyond it clips fade, burn or lose sync.
    around_picture: as in `pipeline.settings.Defaults`.
    """

    sigmas: tuple[float, ...] = (200.0, 130.0, 83.0, 52.0, 32.0, 19.0, 11.0, 6.5, 4.0, 0.02, 0.01, 0.005, 0.0)
    audio_grid: AudioGrid = "trailing"
    audio_substeps: int = 8
    audio_start: float = 970.0
    motion_bucket: int = 127
    noise_augmentation: float = 0.02
    guidance: Mapping[str, str | float | tuple[float, float]] = field(
        default_factory=lambda: {
            "mode": "joint-cfg",
            "video_joint_scale": 1.0,
            "audio_joint_scale": 2.5,
            "video_rescale": 1.0,  # other scales would burn the picture
            "video_prompt_scale": 4.0,
            "prompt_interval": (10.0, 1000.0),  # what is painted, and where, is decided
        }
    )
    scale_range: tuple[float, float] = (1.0, 4.0)
    around_picture: bool = True

    def part_above(self, sigma: float) -> float:
        """The part of the path, from its first step to its last, in which the video's noise is above `sigma`."""
        return sum(each > sigma for each in self.sigmas[1:]) / (len(self.sigmas) - 2)


@dataclass(frozen=True)
class Dropout:
    """Shares of samples: whose modalities do not see each other; without a prompt, whose picture suggests the effect;
    without any condition."""

    isolated: float = 0.25
    prompt: float = 0.3
    everything: float = 0.1


def _learning_rate_factors() -> dict[str, float]:
    ends = ("conv_in", "up_blocks.2.resnets.1", "conv_norm_out", "conv_out")
    slow = {f"{unet}.{end}": 0.3 for unet in ("video_unet", "audio_unet") for end in ends}
    return {"joint_blocks": 4.0, "text_encoder": 4.0} | slow


@dataclass(frozen=True)
class Experts:
    """What `train`, `videos` and `sounds` share.

    held_out: scenes, the first of the cache, that are never trained on.
    rate_factors: by the beginning of a parameter's name, what the learning rate is multiplied by.
    open_gate: where the gates of the Joint Blocks start.
    half_clips: share of `train`, from scratch, that sees the first half of each clip alone.
    heaviest, audio_noise_power: see `train.losses.PairLosses` and `train.noise_levels.draw_audio_levels`.
    substeps: audio sub-steps after each joint evaluation.
    given_video_substeps: audio sub-steps given each video that is nearly clean.
    path_share: of the noise levels, drawn along the path of the default sampler.    path_width: how far beside it the
    audio's timestep may be.    moving_sigma: of the video; `videos` learns the part of the path above it, where it is
    decided what moves.    hidden_sigma, hidden_timestep: above, noise hides what happens in a modality.
    """

    held_out: int = 48
    rate_factors: Mapping[str, float] = field(default_factory=_learning_rate_factors)
    open_gate: float = 0.5
    half_clips: float = 0.4
    dropout: Dropout = Dropout()
    heaviest: float = 1000.0
    audio_noise_power: float = 0.6
    substeps: int = 1
    given_video_substeps: int = 4
    path_share: float = 0.5
    path_width: float = 150.0
    moving_sigma: float = 1.0
    hidden_sigma: float = 1.0
    hidden_timestep: float = 300.0


@dataclass(frozen=True, kw_only=True)
class ExpertStage(Stage):
    """A run of `train`. batch: scenes of a step."""

    budget: Budget = Budget(minutes=120)
    rate: float = 8e-4
    batch: int = 8
    log_every: int = 20


@dataclass(frozen=True, kw_only=True)
class VideoStage(ExpertStage):
    """bfloat16: autocast, faster on processors that have such instructions. Sounds are learned in float32: their errors
    weigh up to `Experts.heaviest` times as much in strong noise, and so would the rounding.
    painting_share: of the noise levels, drawn evenly in the logarithm between `painting_sigmas`, where objects are
    painted.
    change_weight: how much more errors weigh where the scene leaves its first frame.
    twins: share of the samples that are such a few scenes at a time which differ in a named colour alone, in the same
    noise: what they have in common cancels in how the gradient depends on the words, so that colours are soon learned.
    """

    budget: Budget = Budget(minutes=172)
    rate: float = 1.5e-3
    seed: int = 21
    muon: bool = True
    average_decay: float = 0.995
    bfloat16: bool = False
    painting_share: float = 0.5
    painting_sigmas: tuple[float, float] = (1.0, 20.0)
    change_weight: float = 4.0
    twins: float = 0.5


@dataclass(frozen=True, kw_only=True)
class SoundStage(ExpertStage):
    """A run of `sounds`. without_prompt, unconditional: shares of samples.
    suggested: share of the samples without a prompt whose effect is what the picture suggests; a given video may show
    another.
    Without it, the video alone says what is heard.
    faintest: the least strength of what happens in the video, since the model shows it paler than the scenes.
    painted: share of the videos that the model paints itself, in one step from noise between `painted_sigmas`, so that
    the sound belongs to what the model shows.
    bfloat16: autocast of what is computed of the video, which learns nothing here.
    """

    budget: Budget = Budget(minutes=75)
    seed: int = 23
    without_prompt: float = 0.35
    unconditional: float = 0.1
    suggested: float = 0.5
    faintest: float = 0.4
    painted: float = 0.5
    painted_sigmas: tuple[float, float] = (1.0, 6.0)
    bfloat16: bool = False


@dataclass(frozen=True, kw_only=True)
class AloneStage(ExpertStage):
    """A run of `video-alone` or `audio-alone`. bfloat16: autocast."""

    budget: Budget = Budget(minutes=55)
    seed: int = 51
    bfloat16: bool = False


@dataclass(frozen=True)
class Suggestions:
    """How the image encoder learns what pictures suggest.

    gain, tint: how far the brightness and the colours of a picture are changed, as shares.
    kept: weight of answering as before.    held_out: pictures.
    """

    steps: int = 4000
    batch: int = 64
    rate: float = 1e-3
    seed: int = 0
    gain: float = 0.4
    tint: float = 0.15
    kept: float = 1.0
    held_out: int = 300


@dataclass(frozen=True, kw_only=True)
class WordStage(Stage):
    """How the text encoder learns words that captions do not have.

    wordnet: folder of WordNet 3.0.
    near: how much more often than by chance a random walk must be at a word.    clear: share of the walks there that
    must be of one effect.    rare: added to chance, since a word with few links is near everything by accident.
    words_per_effect: at most.    held_out: share of the words that only the log's scores use.
    captions: drawn from `caption_seed` on; `held_out_seed` is for the scores.
    captions_per_step, prompts_per_step: of a batch.    near_shares: of a prompt's words, how many are near its effect;
    one of these is drawn.    from_glosses: share of the prompts that are parts of definitions.
    before_end: weight of the states before the end of a prompt, which cannot know all of it.
    keep_captions: weight of answering captions as before.
    more_tokens: for the new words, since a word that is one token is learned soonest.    layers: of the new encoder.
    """

    budget: Budget = Budget(steps=9000)
    rate: float = 2e-3
    wordnet: Path = Path("/usr/share/wordnet")
    near: float = 2.0
    clear: float = 0.6
    rare: float = 3e-6
    words_per_effect: int = 450
    held_out: float = 0.0
    captions: int = 12_000
    caption_seed: int = 40_000
    held_out_seed: int = 50_000
    captions_per_step: int = 64
    prompts_per_step: int = 192
    near_shares: tuple[float, ...] = (1.0, 0.7, 0.4)
    from_glosses: float = 0.15
    before_end: float = 0.3
    keep_captions: float = 4.0
    more_tokens: int = 2400
    layers: int = 3


@dataclass(frozen=True, kw_only=True)
class AttributeStage(Stage):
    """How the text encoder learns to say which of a scene's own words a caption has.

    strength: of a code, beside states of unit variance.    gain: of what the Joint Blocks read of it.
    texts_per_step: half of them captions, drawn from `caption_seed` on; `held_out_seed` is for the scores.
    """

    budget: Budget = Budget(steps=3000)
    rate: float = 2e-3
    strength: float = 0.4
    gain: float = 10.0
    captions: int = 12_000
    caption_seed: int = 60_000
    held_out_seed: int = 70_000
    texts_per_step: int = 192


@dataclass(frozen=True)
class TinyRecipe:
    """How the bundled model is made: the settings of every command, and what they share.

    runs: folder of everything that is made.
    start: a model whose encoders, tokenizer and, where `runs` has no state yet, weights are used.
    output: folder of what `suggestions` and `export` write.
    milestone: file of what a long run has learned so far.
    shape: of the scenes. One frame lasts 80 ms, as long as one token of the audio expert after In, and every side stays
    even through all levels of both UNets.
    """

    runs: Path = Path("runs/tiny")
    start: Path | None = None
    output: Path = Path("jointdit/tiny")
    milestone: Path = Path("milestone.safetensors")
    shape: ClipShape = ClipShape(frames=20, fps=Fraction(25, 2), height=128, width=128)
    architecture: Architecture = Architecture()
    sampling: Sampling = Sampling()
    video_vae: VideoVAEStage = VideoVAEStage()
    audio_vae: AudioVAEStage = AudioVAEStage()
    vocoder: VocoderStage = VocoderStage()
    cache: Cache = Cache()
    experts: Experts = Experts()
    train: ExpertStage = ExpertStage()
    videos: VideoStage = VideoStage()
    sounds: SoundStage = SoundStage()
    video_alone: AloneStage = AloneStage()
    audio_alone: AloneStage = AloneStage(budget=Budget(minutes=30), seed=53)
    suggestions: Suggestions = Suggestions()
    words: WordStage = WordStage()
    attributes: AttributeStage = AttributeStage()

    def on_coarse_grid(self) -> TinyRecipe:
        """This recipe for a video expert that sees 2 x 2 latents at one position and learns the whole picture, as the
        experts apart do: it is soon trained, but an object's place inside a position has to be memorised."""
        return replace(
            self,
            architecture=replace(
                self.architecture,
                video_channels=(128, 96, 64),
                video_heads=(4, 4, 2),
                latents_per_position=2,
                joint_pools=(1, 1, 1),
            ),
            sampling=replace(
                self.sampling,
                sigmas=(200.0, 130.0, 83.0, 52.0, 32.0, 19.0, 11.0, 6.5, 4.0, 2.0, 0.02, 0.01, 0.005, 0.0),
                around_picture=False,
            ),
        )
