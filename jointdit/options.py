"""What can be asked of a clip, declared once: name, range, default and help of every option of shape, sampling, output,
memory and speed.

The command line, TOML files, the recipe in a clip and the documentation are made from this table or held to it by a
test; so are the nodes' widgets. Nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Range:
    """Values with both ends included. form: a whole number; a number; an interval, LOW:HIGH; a span of seconds, A-B; a
    rate in frames a second, exact, such as 12.5, 25/2 or 24000/1001; or a size in pixels, WIDTHxHEIGHT, whose sides are
    in the range."""

    form: Literal["whole", "number", "interval", "span", "rate", "size"]
    lowest: float
    highest: float


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    choices: tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """Any text."""


@dataclass(frozen=True)
class Flag:
    """On where it is named; off otherwise."""


Kind = Range | Choice | Text | Flag


@dataclass(frozen=True)
class Declared:
    """One option.

    name: with hyphens, as on the command line; `key` is the name of the field or argument in Python.
    default: None is the model's own, or nothing.
    """

    name: str
    metavar: str
    kind: Kind
    help: str
    default: object = None

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")


MAX_SECONDS = 60  # of a clip in memory; a minute of sound is 1,500 audio latents of AudioLDM2, 24,000 tokens
SCALE = Range("number", 0, 100)
SIGMAS = Range("interval", 0, 1000)

CLIP = (
    Declared("prompt", "TEXT", Text(), "what happens and what is heard"),
    Declared("negative-prompt", "TEXT", Text(), "what should not be heard"),
    Declared("seed", "N", Range("whole", 0, 2**64 - 1), "number that fixes everything random"),
    Declared("frames", "N", Range("whole", 2, 1000), "number of frames"),
    Declared("fps", "F", Range("rate", 1, 240), "frames per second, for example 12, 12.5 or 24000/1001"),
    Declared("size", "WxH", Range("size", 16, 4096), "width and height in pixels, for example 128x128"),
    Declared(
        "fit",
        "MODE",
        Choice(("cover", "contain", "stretch")),
        "how a picture of another shape fills the frame: cover (default), contain or stretch",
        "cover",
    ),
    Declared("motion-bucket", "N", Range("number", 0, 1023), "how much moves, as in Stable Video Diffusion"),
    Declared(
        "noise-augmentation", "S", Range("number", 0, 10), "noise on the picture: more lets the video leave it further"
    ),
    Declared(
        "window",
        "N",
        Range("whole", 2, 1000),
        "frames of a window of a longer clip; default what the model was made for",
    ),
    Declared("overlap", "N", Range("whole", 1, 999), "frames that two windows share; default two fifths of a window"),
    Declared(
        "retake",
        "A-B",
        Range("span", 0, MAX_SECONDS),
        "make these seconds of --video anew, such as 1.2-2.0, and keep the rest",
    ),
    Declared("retake-only", "WHAT", Choice(("video", "sound")), "of a retake, make only this anew"),
)

OUTPUT = (
    Declared(
        "gain", "DB", Range("number", -60, 60), "make the sound louder, or quieter below 0, as far as its peak allows"
    ),
    Declared("loudness", "LUFS", Range("number", -70, -5), "loudness of the sound by ITU-R BS.1770, for example -23"),
)

SAMPLING = (
    Declared("steps", "N", Range("whole", 1, 999), "denoising steps"),
    Declared(
        "sampler",
        "NAME",
        Choice(("euler", "heun", "dpmpp_2m", "lcm")),
        "euler (default), heun, dpmpp_2m or lcm",
        "euler",
    ),
    Declared(
        "guidance",
        "MODE",
        Choice(("none", "cfg", "joint-cfg", "joint-cfg-star")),
        "which predictions are combined: none, cfg, joint-cfg or joint-cfg-star",
    ),
    Declared("video-scale", "S", SCALE, "how strongly the video obeys the picture; 1 is neutral"),
    Declared(
        "video-scale-start",
        "S",
        SCALE,
        "the same at the first frame, from where it rises evenly to the last; left out, it is the same for all",
    ),
    Declared("audio-scale", "S", SCALE, "how strongly the sound obeys the text; 1 is neutral"),
    Declared("joint-scale", "W", SCALE, "how strongly picture and sound agree; 1 is neutral, tiny takes 1 to 4"),
    Declared("video-joint-scale", "W", SCALE, "how strongly the video agrees with the sound, in place of joint-scale"),
    Declared("audio-joint-scale", "W", SCALE, "how strongly the sound agrees with the video, in place of joint-scale"),
    Declared(
        "video-prompt-scale", "S", SCALE, "how strongly the video obeys the prompt beside its picture; 1 is neutral"
    ),
    Declared(
        "guidance-interval", "LOW:HIGH", SIGMAS, "guidance acts only while the video's sigma is between these two"
    ),
    Declared(
        "guidance-rescale",
        "S",
        Range("number", 0, 1),
        "how far the contrast is brought back to that without guidance; 0 is off",
    ),
    Declared(
        "sync",
        "S",
        Range("number", 0, 10),
        "how strongly the sound is pulled to when the picture moves; 0 is off, try 0.5",
    ),
    Declared(
        "sync-interval", "LOW:HIGH", SIGMAS, "sync acts only while the video's sigma is between these two", (0.0, 30.0)
    ),
    Declared("audio-grid", "NAME", Choice(("even", "coupled", "trailing")), "noise levels of the sound"),
    Declared("audio-substeps", "N", Range("whole", 1, 100), "audio steps in each video step"),
    Declared(
        "fresh-noise", "S", Range("number", 0, 1), "share of the video's noise that each step replaces; 0 is plain"
    ),
    Declared(
        "video-temperature",
        "T",
        Range("number", 0, 2),
        "scale of the video's initial noise; lower is calmer, 1 is plain",
    ),
    Declared(
        "reuse",
        "N",
        Range("whole", 1, 1000),
        "run the whole video model in every N-th step only; 1 is always, exactly",
        1,
    ),
    Declared(
        "reuse-layers",
        "N",
        Range("whole", 1, 16),
        "with reuse: run no more than so many of the video model's last layers in every step; default its last block",
    ),
    Declared(
        "isolated", "", Flag(), "picture and sound never see each other: the same model without what joins them", False
    ),
)

PRECISION = (
    Declared(
        "dtype",
        "TYPE",
        Choice(("float32", "float16", "bfloat16")),
        "numbers to compute with (default float32)",
        "float32",
    ),
)

MEMORY = (
    Declared(
        "memory",
        "NAME",
        Choice(("plain", "low", "lowest")),
        "how far to save memory, at the price of time; the options below change one part of it",
        "plain",
    ),
    Declared(
        "offload",
        "NAME",
        Choice(("none", "component", "stage")),
        "what is on the device only while it is used: nothing, components, or blocks of the video expert too",
    ),
    Declared("max-batch", "N", Range("whole", 1, 1024), "clips times guidance passes that are evaluated at once"),
    Declared(
        "feed-forward-chunks", "", Flag(), "the video expert's feed-forward layers take one frame at a time", False
    ),
    Declared("query-chunk", "N", Range("whole", 1, 2**20), "queries of one attention call in Joint Blocks"),
    Declared("decode-chunk", "N", Range("whole", 1, 1000), "frames that are decoded at once; it shows a little"),
    Declared(
        "video-pool",
        "N",
        Range("whole", 1, 64),
        "Joint Blocks average the video's keys and values over so many tokens a side: approximate",
    ),
    Declared(
        "float8", "", Flag(), "weights of both experts in eight bits, half the memory of float16: approximate", False
    ),
    Declared(
        "expandable-segments",
        "",
        Flag(),
        "CUDA memory in blocks that can grow, so that free memory breaks up less",
        False,
    ),
)

SPEED = (
    Declared(
        "compile",
        "BACKEND",
        Choice(("inductor", "cudagraphs", "aot_eager", "eager")),
        "compile every block, which takes minutes at first; inductor is torch's own backend",
    ),
    Declared("channels-last", "", Flag(), "convolutions in the memory format that tensor cores take", False),
    Declared("audio-stream", "", Flag(), "the audio expert runs beside the video expert (CUDA only)", False),
)

DECLARED = {each.name: each for each in (*CLIP, *OUTPUT, *SAMPLING, *PRECISION, *MEMORY, *SPEED)}


def words(name: str) -> tuple[str, ...]:
    """What an option with a choice may be."""
    kind = DECLARED[name].kind
    assert isinstance(kind, Choice), name
    return kind.choices


def highest(name: str) -> float:
    """The largest number that an option may be."""
    kind = DECLARED[name].kind
    assert isinstance(kind, Range), name
    return kind.highest
