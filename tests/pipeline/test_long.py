"""Clips longer than one window, and spans made anew: real experts at small size, and the bundled model."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_models import SHAPE, seeded, write_experts

from jointdit import InputError, JointDiTPipeline, SamplingSettings
from jointdit.evaluate.heard import events_heard
from jointdit.media import Clip, read_clip
from jointdit.models.joint_start import start_joint_blocks
from jointdit.pipeline import GivenVideo
from jointdit.pipeline.pieces import DecodedSound
from jointdit.synthetic.effects import REGISTRY
from jointdit.synthetic.timeline import Timeline

SILENT = np.zeros((1, 0), np.float32)
ONE = {name: value for name, value in SHAPE.items() if name != "frames"}  # a window has 4 frames
LONG = ONE | {"window": 4, "overlap": 1, "steps": 1}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    pipe = JointDiTPipeline.from_experts(*write_experts(tmp_path_factory.mktemp("experts")))
    torch.manual_seed(5)
    start_joint_blocks(pipe.joint_blocks, gate=0.5)  # else the modalities do not know of each other
    return pipe


@pytest.fixture(scope="module")
def tiny():
    return JointDiTPipeline.from_pretrained("tiny")


def pixels(frames: int, height: int = 40, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def long(pipe, *arguments, seed: int = 0, **options):
    options = LONG | options
    settings = SamplingSettings(steps=options.pop("steps"), sampler=options.pop("sampler", "euler"))
    return pipe.long(*arguments, settings=settings, generator=seeded(seed), **options)


def test_what_fits_into_one_window_is_what_the_pipeline_makes(pipe):
    video = Clip(pixels(8, 30, 50), 16, SILENT, 16000)
    one, other = pipe(video=video, steps=1, generator=seeded(), **SHAPE), long(pipe, video=video, frames=4).read()
    assert np.array_equal(one.frames, other.frames) and np.array_equal(one.audio, other.audio)
    picture = pixels(1)[0]
    one, other = pipe(picture, steps=1, generator=seeded(), **SHAPE), long(pipe, picture, frames=4).read()
    assert np.array_equal(one.frames, other.frames) and np.array_equal(one.audio, other.audio)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_one_window_among_windows_is_the_plain_clip_bit_for_bit(pipe, sampler):
    shape = pipe.shape(**SHAPE)
    conditions = pipe.condition([pixels(1)[0]], ["a ball"], [None], shape, seeded())
    settings = SamplingSettings(steps=2, sampler=sampler, audio_substeps=2)
    plain = pipe.sample(conditions, settings, generator=seeded())
    windows = pipe.layout.windows(shape, 4, 2)
    among = pipe.sample(conditions, settings, generator=seeded(), windows=windows)
    assert torch.equal(plain.video, among.video) and torch.equal(plain.audio, among.audio)


def test_a_video_of_any_length_keeps_its_frames_and_gets_a_sound_as_long(pipe):
    video = Clip(pixels(25, 30, 50), 16, SILENT, 16000)
    calls = []
    made = long(
        pipe, video=video, prompt="a ball", overlap=2, together=3, callback=lambda *call: calls.append(call)
    ).read()
    assert np.array_equal(made.frames, video.frames) and made.fps == 16
    assert made.audio.shape == (1, 25000) and np.abs(made.audio).max() > 0
    total = calls[0][2]
    assert calls[0] == ("sample", 0, total) and calls[-1] == ("sample", total, total)
    assert all(before[1] <= after[1] for before, after in pairwise(calls))
    shorter = long(pipe, video=video, prompt="a ball", frames=7, together=3).read()
    assert np.array_equal(shorter.frames, video.frames[:14]) and shorter.audio.shape == (1, 14000)


def test_the_video_is_read_as_its_sound_is_made(pipe):
    """Nothing of it is in memory before it is needed, and what is finished has left."""
    frames, read = pixels(25), []

    def counted():
        for index, frame in enumerate(frames):
            read.append(index)
            yield frame

    video = GivenVideo(Clip(frames, 8, SILENT, 16000).shape, counted)
    pieces = long(pipe, video=video, together=2).pieces
    first = next(pieces)
    assert max(read) < 8 and len(first.frames) < 6
    assert sum(len(piece.frames) for piece in pieces) + len(first.frames) == 25


def test_a_picture_goes_on_beyond_its_first_window(pipe):
    picture = pixels(1)[0]
    plain = pipe(picture, "a ball", steps=1, generator=seeded(), **SHAPE)
    made = long(pipe, picture, "a ball", frames=9).read()
    assert made.frames.shape == (9, 40, 48, 3) and made.audio.shape == (1, 18000)
    assert np.array_equal(made.frames[:4], plain.frames), "the first window is the clip that one window makes"
    again, other = (long(pipe, picture, "a ball", frames=9, seed=seed).read() for seed in (0, 1))
    assert np.array_equal(made.frames, again.frames) and np.array_equal(made.audio, again.audio)
    assert not np.array_equal(made.frames[6:], other.frames[6:])
    latest = long(pipe, picture, "a ball", frames=9, anchor="latest").read().frames
    assert np.array_equal(made.frames[:4], latest[:4]) and not np.array_equal(made.frames[4:], latest[4:])


def test_a_picture_moves_to_a_long_sound_which_is_kept(pipe):
    samples = 0.2 * np.random.default_rng(2).standard_normal((2, 66150)).astype(np.float32)
    made = long(pipe, pixels(1)[0], audio=(samples, 44100)).read()
    assert np.array_equal(made.audio, samples) and len(made.frames) == 12
    other = samples.copy()
    other[:, 44100:] = 0
    changed = long(pipe, pixels(1)[0], audio=(other, 44100)).read()
    assert np.array_equal(made.frames[:5], changed.frames[:5]) and not np.array_equal(made.frames, changed.frames)


def test_what_cannot_be_made_is_refused_before_anything_is_sampled(pipe):
    video, sound = Clip(pixels(20), 8, SILENT, 16000), (np.zeros((1, 48000), np.float32), 16000)
    refusals = {
        "an overlap of 4 frames": {"video": video, "overlap": 4},
        "nothing is left to sample": {"video": video, "audio": sound},
        "lasts 2.50 s, 20 frames; 30 are asked": {"video": video, "frames": 30},
        "the sound lasts 3.00 s": {"image": pixels(1)[0], "audio": sound, "frames": 40},
        "both a picture and a video": {"image": pixels(1)[0], "video": video},
        "no picture": {"frames": 20},
        "together 0": {"video": video, "together": 0},
        "anchor 'last'": {"image": pixels(1)[0], "frames": 20, "anchor": "last"},
    }
    for message, options in refusals.items():
        with pytest.raises(InputError, match=message):
            long(pipe, **options)


def test_a_clip_that_is_interrupted_leaves_no_file(pipe, tmp_path):
    def interrupt(stage, done, total):
        if done > 1:
            raise KeyboardInterrupt

    made = long(pipe, pixels(1)[0], frames=10, callback=interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.save(tmp_path / "clip.mp4")
    assert not os.listdir(tmp_path)
    long(pipe, pixels(1)[0], frames=7).save(tmp_path / "clip.mp4")
    assert len(read_clip(tmp_path / "clip.mp4").frames) == 7


@pytest.mark.parametrize("what", ["both", "video", "sound"])
def test_a_retake_changes_its_span_and_nothing_else(pipe, what):
    sound = 0.1 * np.random.default_rng(1).standard_normal((2, 66150)).astype(np.float32)
    clip = Clip(pixels(12), 8, sound, 44100)
    new = pipe.retake(clip, 0.6, 0.9, "a ball", what=what, settings=SamplingSettings(steps=1), generator=seeded())
    frames = [not np.array_equal(*pair) for pair in zip(new.frames, clip.frames, strict=True)]
    assert [at for at, changed in enumerate(frames) if changed] == ([] if what == "sound" else [5, 6, 7])
    samples = np.nonzero((new.audio != clip.audio).any(0))[0]
    if what == "video":
        assert not len(samples)
    else:
        assert samples.min() >= 0.6 * 44100 and samples.max() < 0.9 * 44100 and len(samples) > 12000


def test_a_retake_of_more_than_one_window_and_of_any_sound(pipe):
    clip = Clip(pixels(12), 8, 0.1 * np.ones((1, 24000), np.float32), 16000)
    new = pipe.retake(clip, 0, 1.5, settings=SamplingSettings(steps=1), generator=seeded())
    assert np.array_equal(new.frames[0], clip.frames[0]) and (new.frames[1:] != clip.frames[1:]).any((1, 2, 3)).all()
    odd = Clip(pixels(12, 35, 51), 8, clip.audio, 16000)
    own = replace(pipe.defaults, frames=4, fps="8", height=40, width=48)
    pipe.defaults, before = own, pipe.defaults
    new = pipe.retake(odd, 0.3, 1.0, what="sound", settings=SamplingSettings(steps=1), generator=seeded())
    pipe.defaults = before
    assert np.array_equal(new.frames, odd.frames) and not np.array_equal(new.audio, odd.audio)
    for message, span, options in (
        ("give a span within the clip, 0 to 1.500 s", (1.0, 1.8), {}),
        ("give a span within", (1.0, 0.5), {}),
        ("no frame but the first", (0.0, 0.0001), {}),
        ("both sides must be multiples of 4", (0.3, 1.0), {"clip": odd}),
        ("retake 'all'", (0.3, 1.0), {"what": "all"}),
        ("has no sound", (0.3, 1.0), {"clip": Clip(clip.frames, 8, SILENT, 16000)}),
    ):
        with pytest.raises(InputError, match=message):
            pipe.retake(options.pop("clip", clip), *span, **options)


@pytest.mark.parametrize("hertz", [220, 440, 1000])
def test_a_tone_goes_on_over_the_seams_without_a_step_or_a_click(tiny, hertz):
    shape = tiny.shape(90)
    windows = tiny.layout.windows(shape, 20, 8)
    tone = 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(shape.samples(16000)) / 16000)
    latents = tiny.audio_codec.encode_audio(tone[None]).detach()
    decoded = DecodedSound(tiny, windows, shape.samples(16000))
    pieces = [decoded.add(latents[:, :, place])[0] for _, place in windows.places()]
    joined, whole = np.concatenate(pieces), tiny.decode_audio(latents, shape)[0, 0]
    assert len(joined) == shape.samples(16000)
    assert np.abs(np.diff(joined, 2)).max() < 1.15 * np.abs(np.diff(whole, 2)).max(), "a click"
    level, own = (_levels(sound) for sound in (joined, whole))
    assert np.ptp(level) < np.ptp(own) + 0.5, "a step in level, in dB"
    turns, own = (_turns(sound) for sound in (joined, whole))
    assert set(turns) <= set(range(own.min() - 1, own.max() + 2)), "another pitch"


def _levels(sound: np.ndarray) -> np.ndarray:
    """dB of 100 ms from every 25 ms on, without the ends."""
    starts = range(800, len(sound) - 2400, 400)
    return np.array([10 * np.log10(np.square(sound[start : start + 1600]).mean()) for start in starts])


def _turns(sound: np.ndarray) -> np.ndarray:
    """Rising zero crossings in each 100 ms."""
    parts = sound[1600 : len(sound) // 1600 * 1600].reshape(-1, 1600)[:-1]
    return ((parts[:, :-1] < 0) & (parts[:, 1:] >= 0)).sum(1)


def test_pieces_of_sound_are_those_of_one_run_of_the_vocoder(pipe):
    """With the published vocoder's layers: what it sees on both sides is enough."""
    shape = pipe.shape(40, 8, 40, 48)
    windows = pipe.layout.windows(shape, 12, 4)
    latents = torch.randn(1, pipe.layout.audio_channels, windows.audio_latents, 16, generator=seeded())
    decoded = DecodedSound(pipe, windows, shape.samples(16000))
    pieces = [decoded.add(latents[:, :, place]) for _, place in windows.places()]
    whole = DecodedSound(pipe, windows, shape.samples(16000))
    mels = []
    whole._vocode = lambda: mels.append(whole._mel) or np.zeros((1, 0), np.float32)
    for _, place in windows.places():
        whole.add(latents[:, :, place])
    sound = pipe.audio_codec.vocode(mels[-1]).detach()[:, : shape.samples(16000)].numpy()
    joined = np.concatenate(pieces, 1)
    np.testing.assert_allclose(joined[:, 64:-640], sound[:, 64 : joined.shape[1] - 640], atol=1e-5)


def test_what_happens_at_a_seam_is_heard_when_it_is_seen(tiny):
    """Blows in the middle of a blended and of a held overlap, and far from both."""
    frames, fps = 46, tiny.shape().fps
    windows = tiny.layout.windows(tiny.shape(frames), 20, 8)
    seams = [(before.frame + 20 + after.frame) / 2 / float(fps) for before, after in pairwise(windows.starts)][:2]
    events = (0.5, seams[0], seams[1], 3.2)
    timeline = Timeline(frames, fps, events, (0.9,) * 4)
    painter = REGISTRY["hammer"].draw(np.random.default_rng(1), 4)
    video = Clip(painter.render(pixels(1, 8, 8)[0].repeat(16, 0).repeat(16, 1), timeline), fps, SILENT, 16000)
    made = tiny.long(video=video, prompt="a hammer strikes", together=2, generator=seeded(1)).read()
    heard = events_heard(made.audio, made.sample_rate)
    for event in events:
        assert np.abs(heard - event).min() < 1 / float(fps), f"{event}: {heard}"
