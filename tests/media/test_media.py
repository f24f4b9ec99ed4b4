"""Pictures, sounds and videos: usable files work, others give an error of one line, and sound stays where it is."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zlib
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from jointdit.errors import InputError
from jointdit.media import (
    Clip,
    decode,
    exact_fps,
    fit_audio,
    fit_image,
    read_audio,
    read_clip,
    read_image,
    resample_audio,
)
from jointdit.media.files import whole_file
from jointdit.media.sound import write_wav

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"
needs_media = pytest.mark.skipif(
    not MEDIA.is_dir(), reason="the real pictures and videos of ../shared/media are absent"
)
COLOURS = [(200, 60, 90), (20, 180, 40), (0, 0, 255), (255, 255, 255), (0, 0, 0), (250, 240, 10)]


def scene(frames=12, fps="25/2", sample_rate=16000, channels=1, impulse=None, size=(48, 64)) -> Clip:
    """Flat colours, one per frame, and silence with an impulse."""
    audio = np.zeros((channels, round(frames / Fraction(fps) * sample_rate)), np.float32)
    if impulse is not None:
        audio[:, round(impulse * sample_rate)] = 0.9
    pictures = np.stack([np.full((*size, 3), COLOURS[k % len(COLOURS)], np.uint8) for k in range(frames)])
    return Clip(pictures, Fraction(fps), audio, sample_rate)


def gradient(height=30, width=50) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 8, columns * 5, rows + columns], axis=-1).astype(np.uint8)


def assert_one_line(error: pytest.ExceptionInfo, *parts: object) -> None:
    message = str(error.value)
    assert "\n" not in message and len(message) < 300 + 2 * len(str(parts))
    for part in parts:
        assert str(part) in message


# Pictures


def test_common_formats_give_the_same_picture(tmp_path):
    picture = gradient()
    for name in ("a.png", "a.bmp", "a.tif", "a.webp", "a.ppm"):
        Image.fromarray(picture).save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        np.testing.assert_array_equal(read_image(tmp_path / name), picture)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (20, 10), colour) for colour in COLOURS[:3]]
    for name in ("a.gif", "a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=80)
        assert np.abs(read_image(tmp_path / name).astype(int) - COLOURS[0]).max() <= 6, name


def test_grey_palette_and_cmyk_pictures(tmp_path):
    picture = Image.fromarray(gradient())
    grey = picture.convert("L")
    grey.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(np.array(grey)[..., None], 3, 2))
    flat = Image.new("RGB", (8, 8), COLOURS[0])
    flat.quantize(4).save(tmp_path / "palette.png")
    assert (read_image(tmp_path / "palette.png") == COLOURS[0]).all()
    flat.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "cmyk.jpg").astype(int) - COLOURS[0]).max() <= 4
    picture.convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    levels = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    expected = np.repeat(np.rint(levels / 257).astype(np.uint8)[..., None], 3, 2)
    for name in ("a.png", "a.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)
    Image.fromarray(levels.astype(np.int32)).save(tmp_path / "i.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "i.tif"), expected)
    (tmp_path / "a.pgm").write_bytes(b"P5 40 30 65535\n" + levels.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm"), expected)
    Image.fromarray((levels / 65535).astype(np.float32)).save(tmp_path / "f.tif")
    assert np.abs(read_image(tmp_path / "f.tif").astype(int) - expected).max() <= 1


def test_numbers_without_a_known_range_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "i.tif")
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "f.tif")
    for name in ("i.tif", "f.tif"):
        with pytest.raises(InputError) as error:
            read_image(tmp_path / name)
        assert_one_line(error, tmp_path / name, "instead of 0 to")


def test_transparent_pictures_lie_on_white(tmp_path):
    pixels = np.zeros((3, 1, 4), np.uint8)
    pixels[:, 0] = [(200, 60, 90, 255), (200, 60, 90, 0), (200, 60, 90, 128)]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[:, 0].tolist() == [[200, 60, 90], [255, 255, 255], [227, 157, 172]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 60, 90, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=1)
    assert read_image(tmp_path / "p.png")[0].tolist() == [[200, 60, 90], [255, 255, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    picture = gradient(6, 9)
    stored = {  # how a camera that notes this orientation stores the picture
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, 1),
        7: np.rot90(picture, 2).transpose(1, 0, 2),
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)


def test_unusable_files_are_named(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    Image.fromarray(gradient(100, 100)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    for name, part in {
        "none.png": "no such file",
        ".": "directory",
        "empty.png": "empty",
        "text.png": "not a picture",
        "a.eps": "not a picture",
        "cut.jpg": "truncated",
        "zero\0byte.png": "cannot be opened",
        "x" * 300: "too long",
    }.items():
        with pytest.raises(InputError) as error:
            read_image(f"{tmp_path}/{name}")
        assert_one_line(error, part, tmp_path)
        if name not in ("cut.jpg", "a.eps"):
            for read in (read_audio, read_clip):
                with pytest.raises(InputError) as error:
                    read(f"{tmp_path}/{name}")
                assert_one_line(error, tmp_path)


def test_a_pipe_is_refused_at_once(tmp_path):
    """Its bytes come once, and opening it waits for someone who writes."""
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_image, read_audio, read_clip):
        with pytest.raises(InputError, match="pipe.png: this is a pipe or a device"):
            read(tmp_path / "pipe.png")


@pytest.mark.parametrize("side", [9_000, 30_000])
def test_a_gigantic_picture_is_refused_by_its_header(tmp_path, side):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=f"bomb.png: {side**2 // 1_000_000} megapixels, but at most 80"):
            read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.tif", "a.bmp", "a.ppm", "a.tga", "a.jp2"])
def test_damaged_pictures_are_read_or_refused(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(gradient())
    image.save(tmp_path / name, **({"exif": exif} if name[2:] in ("png", "jpg", "webp") else {}))
    whole = (tmp_path / name).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(80):
        data = bytearray(whole[: random.integers(1, len(whole))] if random.random() < 0.3 else whole)
        for position in random.integers(0, min(len(data), 400), 3):
            data[position] = random.integers(256)
        (tmp_path / name).write_bytes(data)
        try:
            assert read_image(tmp_path / name).dtype == np.uint8
        except InputError as error:
            assert "\n" not in str(error) and name in str(error)


def test_cover_crops_at_the_centre():
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[:, 30:70] = 255
    fitted = fit_image(picture, 40, 40)
    assert fitted.shape == (40, 40, 3) and (fitted == 255).all()
    assert (fit_image(picture.transpose(1, 0, 2), 20, 20)[1:-1] > 250).all()


def test_contain_keeps_everything_between_bars_of_the_edge_colour():
    picture = np.full((20, 80, 3), COLOURS[0], np.uint8)
    picture[5:15, 20:60] = 0
    fitted = fit_image(picture, 40, 40, "contain")
    assert fitted.shape == (40, 40, 3)
    assert (fitted[:14] == COLOURS[0]).all() and (fitted[26:] == COLOURS[0]).all()
    assert (fitted[20, 15:25] < 10).all()
    assert fit_image(np.zeros((1, 5000, 3), np.uint8), 16, 24, "contain").shape == (16, 24, 3)


def test_stretch_changes_the_proportions():
    picture = np.zeros((10, 40, 3), np.uint8)
    picture[:, 20:] = 200
    fitted = fit_image(picture, 16, 16, "stretch")
    assert (fitted[:, :6] < 8).all() and (fitted[:, 10:] > 192).all()


def test_shrinking_is_antialiased():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(fit_image(stripes, 30, 30).astype(int) - 127).max() < 16


def test_fitting_refuses_what_it_does_not_know():
    for arguments in ((gradient(), 0, 8), (gradient(), 8, 8, "fill")):
        with pytest.raises(InputError):
            fit_image(*arguments)
    with pytest.raises(ValueError, match="uint8"):
        fit_image(gradient() / 255, 8, 8)


# Clips


@pytest.mark.parametrize(
    ("given", "exact"),
    [(7, 7), (12.5, "25/2"), (23.976, "24000/1001"), ("23.976", "24000/1001"), (29.97, "30000/1001"), (24.0, 24)]
    + [("25/2", "25/2"), (Fraction(24000, 1001), "24000/1001"), (59.94, "60000/1001"), (0.1, "1/10"), (15.5, "31/2")],
)
def test_frame_rates_are_exact(given, exact):
    assert exact_fps(given) == Fraction(exact)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e9, "fast", "1/0"])
def test_impossible_frame_rates_are_refused(fps):
    with pytest.raises(InputError, match="fps is"):
        exact_fps(fps)


def test_a_clip_checks_what_it_is_made_of():
    clip = scene()
    assert clip.seconds == Fraction(24, 25) and clip.has_audio
    assert not Clip(clip.frames, 12.5, clip.audio[:, :0], 16000).has_audio
    for frames, audio, rate, part in [
        (clip.frames / 255, clip.audio, 16000, "frames are float64"),
        (clip.frames[0], clip.audio, 16000, "uint8 [T, H, W, 3]"),
        (clip.frames[:0], clip.audio, 16000, "[0, 48, 64, 3]"),
        (clip.frames, clip.audio[0], 16000, "[channels, samples]"),
        (clip.frames, clip.audio.astype(np.float64), 16000, "float64"),
        (clip.frames, clip.audio[:, 1:], 16000, "fit_audio(audio, 15360)"),
        (clip.frames, clip.audio * np.nan, 16000, "NaN"),
        (clip.frames, clip.audio, 0, "sample_rate is 0"),
    ]:
        with pytest.raises(ValueError) as error:
            Clip(frames, 12.5, audio, rate)
        assert_one_line(error, part)


# Sound


def test_sound_is_padded_with_silence_or_cut_with_a_fade():
    audio = np.ones((2, 1000), np.float32)
    padded = fit_audio(audio, 1500)
    assert padded.shape == (2, 1500) and (padded[:, :1000] == 1).all() and not padded[:, 1000:].any()
    cut = fit_audio(audio, 600)
    assert cut.shape == (2, 600) and (cut[:, :472] == 1).all() and (np.diff(cut[0, 472:]) < 0).all() and cut[0, -1] == 0
    assert (fit_audio(audio, 600, fade=0) == 1).all()
    assert (fit_audio(audio, 1000) == audio).all() and fit_audio(audio, 50).shape == (2, 50)
    assert (audio == 1).all()


@pytest.mark.parametrize(("rate", "new_rate"), [(16000, 48000), (44100, 16000), (48000, 44100), (16000, 16000)])
def test_resampling_keeps_time_pitch_and_level(rate, new_rate):
    def tone(r):
        return 0.5 * np.sin(2 * np.pi * 440 * np.arange(r // 2) / r).astype(np.float32)

    resampled = resample_audio(np.stack([tone(rate), -tone(rate)]), rate, new_rate)
    assert resampled.shape == (2, new_rate // 2) and resampled.dtype == np.float32
    middle = slice(new_rate // 20, -new_rate // 20)
    np.testing.assert_allclose(resampled[0, middle], tone(new_rate)[middle], atol=2e-3)
    np.testing.assert_allclose(resampled[1], -resampled[0], atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT"])
def test_sound_files_are_read_at_their_level(tmp_path, subtype):
    soundfile = pytest.importorskip("soundfile")
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 5000)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave.T, 22050, subtype=subtype)
    audio, rate = read_audio(tmp_path / "a.wav")
    assert rate == 22050 and audio.dtype == np.float32 and audio.shape == wave.shape
    np.testing.assert_allclose(audio, wave, atol=0.01 if subtype == "PCM_U8" else 5e-5)
    resampled, rate = read_audio(tmp_path / "a.wav", 16000)
    assert rate == 16000 and resampled.shape == (2, round(5000 * 16000 / 22050))


def test_a_wav_file_is_as_near_as_sixteen_bits_allow(tmp_path):
    wave = np.linspace(-1, 1, 4001, dtype=np.float32)[None]
    write_wav(tmp_path / "a.wav", wave, 16000)
    audio, rate = read_audio(tmp_path / "a.wav")
    assert rate == 16000 and np.abs(audio - wave)[0, :-1].max() <= 2**-16
    assert audio[0, -1] == 1 - 2**-15, "the loudest there is"


def test_a_sound_is_read_up_to_a_length_and_not_beyond_memory(tmp_path, monkeypatch):
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, (1, 80000)).astype(np.float32)
    Clip(scene(25, "5").frames, 5, wave, 16000).save(tmp_path / "a.mp4")
    whole, _ = read_audio(tmp_path / "a.mp4")
    part, _ = read_audio(tmp_path / "a.mp4", max_seconds=1.5)
    assert whole.shape[1] >= 80000 and np.array_equal(part, whole[:, :24000])
    assert read_audio(tmp_path / "a.mp4", 48000, max_seconds=1.5)[0].shape == (1, 72000)
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="max_seconds"):
            read_audio(tmp_path / "a.mp4", max_seconds=seconds)

    decoded, all_frames = [], decode._decoded
    monkeypatch.setattr(decode, "MAX_BYTES", 100_000)  # 25,000 samples
    monkeypatch.setattr(decode, "_decoded", lambda *file: (decoded.append(each) or each for each in all_frames(*file)))
    with pytest.raises(InputError, match="a.mp4: 2 seconds of sound or more do not fit into memory"):
        read_audio(tmp_path / "a.mp4")
    assert sum(each.samples for each in decoded) < 30_000, "refused when it is too much, not when all of it is there"


# Videos


def mean_colours(frames: np.ndarray) -> np.ndarray:
    return frames[:, 4:-4, 4:-4].reshape(len(frames), -1, 3).mean(axis=1)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("fps", ["7", "12", "24", "24000/1001", "25/2", "617/50"])
def test_frames_rate_and_colours_come_back(tmp_path, suffix, fps):
    clip = scene(fps=fps)
    clip.save(tmp_path / f"a{suffix}")
    with av.open(tmp_path / f"a{suffix}") as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(fps) or suffix == ".webm"
        assert float(stream.average_rate) == pytest.approx(float(Fraction(fps)), rel=1e-4)
        times = [frame.pts * frame.time_base for frame in container.decode(stream)]
    assert times == pytest.approx([k / Fraction(fps) for k in range(12)], abs=0 if suffix == ".mp4" else 0.0006)
    again = read_clip(tmp_path / f"a{suffix}")
    assert again.fps == Fraction(fps) and again.frames.shape == clip.frames.shape
    assert np.abs(mean_colours(again.frames) - mean_colours(clip.frames)).max() <= 3
    assert again.audio.shape == clip.audio.shape or suffix == ".webm"  # Opus is always 48 kHz
    assert abs(again.audio.shape[1] / again.sample_rate - clip.seconds) < 1e-4


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [16000, 44100, 48000, 37800])
@pytest.mark.parametrize("fps", ["7", "12", "24", "24000/1001", "25/2"])
def test_an_impulse_stays_where_it_is(tmp_path, fps, sample_rate, channels, suffix):
    clip = scene(14, fps, sample_rate, channels, impulse=0.3, size=(16, 16))
    path = tmp_path / f"a{suffix}"
    clip.save(path)
    heard = []  # as players do: skip what the edit list skips, then follow the timestamps
    with av.open(path) as container:
        assert container.streams.audio[0].channels == channels
        for frame in container.decode(audio=0):
            sound = np.abs(frame.to_ndarray().reshape(1, -1) if frame.format.is_packed else frame.to_ndarray())
            step = 1 / frame.sample_rate / (channels if frame.format.is_packed else 1)
            heard.append((sound.max(), frame.time + sound.max(axis=0).argmax() * step))
            end = frame.time + frame.samples / frame.sample_rate
    assert max(heard)[1] == pytest.approx(0.3, abs=0.002)
    assert end == pytest.approx(float(clip.seconds), abs=1024 / frame.sample_rate)
    again = read_clip(path, sample_rate=sample_rate)
    assert again.audio.shape == clip.audio.shape
    assert np.abs(again.audio[0]).argmax() / sample_rate == pytest.approx(0.3, abs=0.002)


def boxes(data: bytes) -> dict[bytes, int]:
    """Top-level boxes of an mp4 and where they start."""
    found, position = {}, 0
    while position < len(data):
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        found[kind] = position
        position += size
    return found


def test_the_mp4_is_what_browsers_play(tmp_path):
    clip = scene(channels=2, impulse=0.5)
    clip.save(tmp_path / "a.mp4")
    found = boxes((tmp_path / "a.mp4").read_bytes())
    assert found[b"moov"] < found[b"mdat"]
    with av.open(tmp_path / "a.mp4") as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        codec = video.codec_context
        assert (codec.name, codec.pix_fmt, codec.profile) == ("h264", "yuv420p", "High")
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)
        assert (audio.codec_context.name, audio.codec_context.profile, audio.sample_rate) == ("aac", "LC", 16000)
        assert video.start_time == 0 and audio.start_time == 0 and video.frames == 12
        assert video.duration * video.time_base == clip.seconds
        assert abs(audio.duration * audio.time_base - clip.seconds) <= Fraction(1, 1000)


def test_writing_is_deterministic_and_fine_enough(tmp_path):
    random = np.random.default_rng(0)
    smooth = random.integers(0, 256, (4, 6, 8, 3)).astype(np.uint8)
    frames = np.stack([fit_image(picture, 96, 128, "stretch") for picture in smooth])
    tone = 0.3 * np.sin(np.arange(5120) * 0.2).astype(np.float32)[None]
    clip = Clip(frames, 12.5, tone, 16000)
    for suffix in (".mp4", ".webm"):
        for name in "ab":
            clip.save(tmp_path / (name + suffix))
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
        again = read_clip(tmp_path / f"a{suffix}", sample_rate=16000)
        error = (again.frames.astype(float) - frames) ** 2
        assert 10 * np.log10(255**2 / error.mean()) > 36
        noise = again.audio[0, 200:-200] - tone[0, 200:-200]
        assert 10 * np.log10(np.square(tone).mean() / np.square(noise).mean()) > 20
        clip.save(tmp_path / f"c{suffix}", crf=40)
        assert (tmp_path / f"c{suffix}").stat().st_size < (tmp_path / f"a{suffix}").stat().st_size


def test_flipped_and_transposed_arrays_are_written_as_they_look(tmp_path):
    frames = np.stack([fit_image(gradient(), 48, 64, "stretch")] * 10)[:, :, ::-1]
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (16000, 2)).astype(np.float32).T
    Clip(frames, 10, audio, 16000).save(tmp_path / "views.mp4")
    Clip(frames.copy(), 10, audio.copy(order="C"), 16000).save(tmp_path / "copies.mp4")
    assert (tmp_path / "views.mp4").read_bytes() == (tmp_path / "copies.mp4").read_bytes()


def test_a_single_frame_and_a_silent_clip(tmp_path):
    for suffix in (".mp4", ".webm"):
        single = scene(1, "7", 44100)
        single.save(tmp_path / f"a{suffix}")
        assert read_clip(tmp_path / f"a{suffix}").frames.shape == single.frames.shape
        with av.open(tmp_path / f"a{suffix}") as container:
            assert container.duration / 1e6 == pytest.approx(1 / 7, abs=0.01)
        mute = Clip(scene().frames, 12.5, np.zeros((1, 0), np.float32), 16000)
        mute.save(tmp_path / f"b{suffix}")
        again = read_clip(tmp_path / f"b{suffix}")
        assert again.audio.shape == (1, 0) and not again.has_audio and len(again.frames) == 12
        with pytest.raises(InputError, match="no sound"):
            read_audio(tmp_path / f"b{suffix}")


def test_loud_sound_is_limited(tmp_path):
    clip = scene(impulse=0.2)
    loud = Clip(clip.frames, clip.fps, clip.audio * 50, clip.sample_rate)
    loud.save(tmp_path / "a.mp4")
    assert np.abs(read_clip(tmp_path / "a.mp4").audio).max() < 1.2


def test_reading_a_part_on_another_grid(tmp_path):
    clip = scene(24, "12", impulse=0.4)
    clip.save(tmp_path / "a.mp4")
    part = read_clip(tmp_path / "a.mp4", max_seconds=1.0)
    assert len(part.frames) == 12 and part.audio.shape == (1, 16000)
    half = read_clip(tmp_path / "a.mp4", fps=6)
    assert half.fps == 6 and len(half.frames) == 12 and half.seconds == clip.seconds
    double = read_clip(tmp_path / "a.mp4", fps=24)
    assert len(double.frames) == 48
    assert np.abs(mean_colours(double.frames)[::2] - mean_colours(clip.frames)).max() <= 3
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="max_seconds"):
            read_clip(tmp_path / "a.mp4", max_seconds=seconds)


def write_uneven(path, times_ms, sound_start_ms):
    """An mkv whose frames and sound start at the given times; the sound is silence with an impulse after 0.5 s."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for index, at in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), COLOURS[index], np.uint8), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        wave = np.zeros((1, 16000), np.int16)
        wave[0, 8000] = 30000
        sound = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 16000, sound_start_ms * 16, Fraction(1, 16000)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


@pytest.mark.parametrize(("video_start", "sound_start"), [(0, 0), (0, 200), (300, 0), (120, 80)])
def test_sound_and_frames_of_uneven_files_share_one_clock(tmp_path, video_start, sound_start):
    times = [0, 100, 200, 500, 600]
    write_uneven(tmp_path / "a.mkv", [video_start + at for at in times], sound_start)
    clip = read_clip(tmp_path / "a.mkv", fps=10)
    shown = [0, 1, 2, 2, 2, 3]  # the last frame lasts 40 ms, less than half a step
    assert np.abs(mean_colours(clip.frames) - np.array(COLOURS)[shown]).max() <= 4
    if 0.5 + (sound_start - video_start) / 1000 < clip.seconds:
        impulse = np.abs(clip.audio[0]).argmax() / 16000
        assert impulse == pytest.approx(0.5 + (sound_start - video_start) / 1000, abs=0.002)


@pytest.mark.parametrize(("matrix", "red", "blue"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (2, 0.299, 0.114)])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_follow_the_tags_of_the_file(tmp_path, matrix, red, blue, full_range):
    r, g, b = np.array(COLOURS[0]) / 255
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = np.array([(b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)])
    levels = [255 * luma, *(128 + 255 * chroma)] if full_range else [16 + 219 * luma, *(128 + 224 * chroma)]
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full_range else 1
        frame = av.VideoFrame(32, 32, "yuv420p")
        frame.colorspace, frame.color_range = matrix, 2 if full_range else 1
        for plane, level in zip(frame.planes, levels, strict=True):
            plane.update(bytes([round(level)]) * plane.buffer_size)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    np.testing.assert_allclose(mean_colours(read_clip(tmp_path / "a.mp4").frames)[0], COLOURS[0], atol=3)


def test_a_phone_video_is_turned_upright(tmp_path):
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :32] = COLOURS[0]
    clip = Clip(np.repeat(picture[None], 4, 0), 12.5, np.zeros((1, 0), np.float32), 16000)
    clip.save(tmp_path / "a.mp4")
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 5 * 4 + 8 + 8  # ISO/IEC 14496-12: a quarter turn clockwise
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(data)
    frames = read_clip(tmp_path / "a.mp4").frames
    assert frames.shape == (4, 64, 32, 3)
    np.testing.assert_allclose(frames[:, :28], np.full((4, 28, 32, 3), COLOURS[0]), atol=4)
    assert frames[:, 36:].max() <= 4


def test_broken_videos_are_refused(tmp_path):
    path = tmp_path / "a.mp4"
    noisy = np.random.default_rng(0).integers(0, 256, (10, 48, 64, 3)).astype(np.uint8)
    Clip(noisy, 10, np.zeros((1, 16000), np.float32), 16000).save(path)
    whole = path.read_bytes()
    for share in (0.01, 0.03, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError) as error:
            read_clip(path)
        assert_one_line(error, path)
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for position in random.integers(0, 2500, 3):
            data[position] = random.integers(256)
        path.write_bytes(data)
        for read in (read_clip, read_audio):
            try:
                read(path)
            except InputError as error:
                assert "\n" not in str(error)
    (tmp_path / "noise.mp4").write_bytes(random.bytes(5000))
    with pytest.raises(InputError, match="noise.mp4"):
        read_clip(tmp_path / "noise.mp4")


# Outputs


def test_impossible_outputs_are_named_and_nothing_is_left(tmp_path):
    clip, odd = scene(), scene(size=(47, 63))
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "there.mp4").write_bytes(b"kept")
    for thing, name, options, part in [
        (clip, "a.avi", {}, ".mp4 or .webm"),
        (clip, "a", {}, ".mp4 or .webm"),
        (odd, "a.mp4", {}, "63x47 cannot be written; the nearest even size is 64x48"),
        (clip, "missing/a.mp4", {}, "does not exist"),
        (clip, "there.mp4/a.mp4", {}, "does not exist"),
        (clip, "folder.mp4", {}, "directory"),
        (clip, "there.mp4", {"overwrite": False}, "exists"),
        (clip, "a.mp4", {"crf": 0}, "crf is 0"),
        (clip, "a.mp4", {"crf": 52}, "51"),
        (Clip(clip.frames, clip.fps, np.repeat(clip.audio, 6, 0), 16000), "a.mp4", {}, "6 channels"),
        (clip, "/proc/a.mp4", {}, "cannot be written"),
        (clip, "x" * 260 + ".mp4", {}, "cannot be written"),
        (clip, "a\0.mp4", {}, "zero byte"),
    ]:
        with pytest.raises(InputError) as error:
            thing.save(tmp_path / name, **options)
        assert_one_line(error, part, *([] if "crf" in options else [name.replace("\0", "\\x00")]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.mp4", "there.mp4"]
    assert (tmp_path / "there.mp4").read_bytes() == b"kept"
    clip.save(tmp_path / "there.mp4")
    assert len(read_clip(tmp_path / "there.mp4").frames) == 12


def test_an_unwritable_directory_is_named():
    nobody, user = 65534, os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        if user == 0:  # root may write everywhere
            os.seteuid(nobody)
        try:
            with pytest.raises(InputError, match="cannot be written"):
                scene().save(f"{folder}/a.mp4")
        finally:
            os.seteuid(user)


def test_names_that_look_like_addresses_are_just_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("http:a.mp4", "pipe:1.mp4", "a%03d.mp4", "ü b.MP4"):
        scene().save(name)
        assert len(read_clip(name).frames) == 12


def test_files_that_appear_whole_have_the_mode_that_the_user_asks_for(tmp_path):
    """safetensors' own temporary file, for one, is for its owner alone."""
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a.safetensors") as partial:
            save_file({"zero": np.zeros(1)}, partial)
        scene().save(tmp_path / "a.mp4")
        (tmp_path / "there.json").touch(0o600)
        with whole_file(tmp_path / "there.json") as partial:
            partial.write_text("{}")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"a.safetensors": 0o640, "a.mp4": 0o640, "there.json": 0o640}


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_ctrl_c_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"kept")
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    clip = Clip(np.broadcast_to(noise, (1500, *noise.shape)), 25, np.zeros((1, 1500 * 640), np.float32), 16000)
    written = threading.Event()

    def largest() -> int:
        with suppress(FileNotFoundError):  # a probe that was there a moment ago
            return max(entry.stat().st_size for entry in tmp_path.rglob("*") if entry.is_file())
        return 0

    def press() -> None:
        while largest() <= len(b"kept"):
            time.sleep(0.005)
        if not written.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        clip.save(path)
        written.set()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name] and path.read_bytes() == b"kept"


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    script = """
import resource, sys, numpy as np
from jointdit.errors import InputError
from jointdit.media import Clip
frames = np.random.default_rng(0).integers(0, 256, (40, 192, 256, 3)).astype(np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    Clip(frames, 25, np.zeros((1, 0), np.float32), 16000).save(sys.argv[1])
except InputError as error:
    print(error)
"""
    target = str(tmp_path / "a.mp4")
    done = subprocess.run([sys.executable, "-c", script, target], capture_output=True, text=True, timeout=120)
    assert "cannot be written (file too large)" in done.stdout, done
    assert len(done.stdout.splitlines()) == 1 and not list(tmp_path.iterdir())


# Real files


@needs_media
def test_real_photos_are_read_and_fitted():
    photos = sorted((MEDIA / "images").glob("*.jpg"))
    assert photos
    for photo in photos:
        fitted = fit_image(read_image(photo), 128, 128)
        assert fitted.shape == (128, 128, 3) and fitted.std() > 10


@needs_media
def test_real_videos_survive_a_round_trip(tmp_path):
    for path in sorted((MEDIA / "videos").glob("joint_*.mp4"))[:3]:
        clip = read_clip(path)
        assert len(clip.frames) == 14 and clip.fps == 7 and clip.audio.shape == (2, 32000) and clip.sample_rate == 16000
        small = Clip(np.stack([fit_image(frame, 96, 128) for frame in clip.frames]), clip.fps, clip.audio, 16000)
        small.save(tmp_path / path.name)
        again = read_clip(tmp_path / path.name)
        assert again.frames.shape == small.frames.shape
        assert 10 * np.log10(255**2 / np.square(again.frames.astype(float) - small.frames).mean()) > 32
        best = np.correlate(again.audio[0], small.audio[0, 800:-800], "valid").argmax()
        assert abs(best - 800) <= 16  # 1 ms
