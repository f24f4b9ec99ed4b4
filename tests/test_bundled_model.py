"""The bundled model does the main job: every photo becomes a moving, sounding clip, and nothing of it is staged."""

from __future__ import annotations

import inspect
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

import jointdit
from jointdit import JointCFG, JointDiTPipeline, SamplingSettings
from jointdit.cli import main
from jointdit.evaluate.painting import added_colour
from jointdit.media import fit_image, read_clip, read_image
from jointdit.synthetic import EFFECTS, render_scene

PHOTOS = ("dog", "drumstick", "fire", "thunder", "violin", "waterfall")
AAC_FRAME = 1024 / 16000  # seconds


@pytest.fixture(scope="module")
def pipe():
    return JointDiTPipeline.from_pretrained("tiny")


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    return -10 * np.log10(np.mean((one / 255.0 - two / 255.0) ** 2))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("name", "prompt"), [(name, prompt) for name in PHOTOS for prompt in (None, "thunderstorm")])
def test_every_photo_becomes_a_sounding_clip(shared_media, tmp_path, capsys, name, prompt):
    photo, output = shared_media / "images" / f"{name}.jpg", tmp_path / "clip.mp4"
    words = ["--prompt", prompt] if prompt else []
    assert main(["generate", str(photo), "-o", str(output), "--seed", "3", *words]) == 0
    assert "seed 3" in capsys.readouterr().out

    with av.open(output) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.average_rate == Fraction(25, 2) and (video.width, video.height) == (128, 128)
        assert abs(video.duration * video.time_base - audio.duration * audio.time_base) <= AAC_FRAME
    clip = read_clip(output)
    assert len(clip.frames) == 20
    picture = fit_image(read_image(photo), 128, 128)
    assert psnr(clip.frames[0], picture) >= 20
    assert np.abs(np.diff(clip.frames.astype(float), axis=0)).mean() > 0.5, "the picture does not move"
    assert np.sqrt(np.mean(clip.audio**2)) > 10 ** (-45 / 20), "silent"
    assert np.mean(np.abs(clip.audio) > 0.99) < 1e-3, "clipped"


def test_video_autoencoder_keeps_unseen_photos(pipe, shared_media):
    for name in PHOTOS:
        picture = fit_image(read_image(shared_media / "images" / f"{name}.jpg"), 128, 128)
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None, None].float() / 127.5 - 1
        with torch.no_grad():
            back = pipe.decode_video(pipe.video_codec.encode_video(pixels))[0, 0]
        assert psnr(back, picture) >= 24, name


def test_audio_autoencoder_and_vocoder_keep_loudness(pipe):
    changes = []
    for number, effect in enumerate(EFFECTS):
        sound = torch.from_numpy(render_scene(number, effect=effect, height=16, width=16).audio)[None]
        with torch.no_grad():
            back = pipe.audio_codec.decode_audio(pipe.audio_codec.encode_audio(sound), sound.shape[1])
        changes.append(20 * np.log10(back.norm() / sound.norm()))
    assert abs(np.mean(changes)) < 1.5 and np.abs(changes).max() < 4, "dB"


def test_the_picture_comes_out_of_the_model(pipe):
    """With the denoised latents at zero, the picture is gone."""
    picture = read_image(Path(jointdit.__file__).parent / "assets" / "sample.jpg")
    conditions = pipe.condition([picture], [None], [None], pipe.shape(), seeded())
    latents = pipe.sample(conditions, SamplingSettings(steps=8), generator=seeded())
    fitted = fit_image(picture, 128, 128)
    for frame in (0, 1):  # the first is the picture's own latents, the second is the model's
        assert psnr(pipe.decode_video(latents.video)[0, frame], fitted) > 18
        assert psnr(pipe.decode_video(torch.zeros_like(latents.video))[0, frame], fitted) < 15


def test_a_ball_has_the_colour_that_the_prompt_names(pipe):
    picture, colours = read_image(Path(jointdit.__file__).parent / "assets" / "sample.jpg"), ["red", "green", "blue"]
    prompts = [f"a {colour} ball bounces on the ground" for colour in colours]
    clips = pipe([picture] * 3, prompts, generator=[seeded(number) for number in range(3)])
    assert [added_colour(clip.frames) for clip in clips] == colours


def test_sampling_and_decoding_know_no_effect_and_no_event():
    package = Path(jointdit.__file__).parent
    folders = ("models", "encoders", "diffusion", "pipeline")
    sources = [path.read_text().lower() for folder in folders for path in (package / folder).rglob("*.py")]
    assert len(sources) > 15
    assert not [word for word in (*EFFECTS, "synthetic") for source in sources if f'"{word}"' in source]
    assert "events" not in inspect.signature(JointDiTPipeline.sample).parameters


def test_seed_fixes_every_byte(pipe):
    picture = np.full((128, 128, 3), 90, np.uint8)
    one, again, other = (pipe(picture, "rain", steps=2, generator=seeded(seed)) for seed in (0, 0, 1))
    assert one.frames.tobytes() == again.frames.tobytes() and one.audio.tobytes() == again.audio.tobytes()
    assert one.frames.tobytes() != other.frames.tobytes() and one.audio.tobytes() != other.audio.tobytes()


@pytest.mark.parametrize(
    ("guidance", "stems", "rows"),
    [
        (JointCFG("none"), 1, 1),
        (JointCFG("cfg", video_scale=3), 2, 2),
        (JointCFG("joint-cfg", joint_scale=3), 2, 2),
        (JointCFG("joint-cfg-star", video_scale=3, joint_scale=2), 2, 3),
    ],
)
def test_a_step_evaluates_what_guidance_needs_and_no_more(pipe, guidance, stems, rows):
    found = {"In": 0, "Out": 0}

    def count(name):
        return lambda module, inputs, output: found.update({name: found[name] + output.shape[0] // 20})

    hooks = [
        pipe.model.video_unet.conv_in.register_forward_hook(count("In")),
        pipe.model.video_unet.conv_out.register_forward_hook(count("Out")),
    ]
    pipe(np.zeros((128, 128, 3), np.uint8), steps=2, guidance=guidance, generator=seeded())
    for hook in hooks:
        hook.remove()
    assert found == {"In": 2 * stems, "Out": 2 * rows}


@pytest.mark.parametrize(
    "guidance", [JointCFG("cfg"), JointCFG("joint-cfg-star"), JointCFG("joint-cfg", joint_scale=4)]
)
def test_no_mode_of_guidance_burns_the_picture(pipe, guidance):
    picture = render_scene(600_030_003, effect="rain").picture

    def burnt(guidance: JointCFG | None) -> float:
        frames = pipe(picture, "heavy rain", steps=4, guidance=guidance, generator=seeded()).frames
        return ((frames <= 1) | (frames >= 254)).mean()

    assert burnt(guidance) < burnt(None) + 0.02


def test_default_clip_needs_less_than_two_gibibytes(tmp_path):
    """Peak memory of the whole process, model loading included."""
    script = (
        f"import sys; sys.path.append({str(Path(__file__).parent / 'support')!r}); from peak_memory import peak_memory;"
        "from jointdit.cli import main;"
        "status = main(['generate', '-o', sys.argv[1], '--seed', '0', '--steps', '3']);"
        "print(status, peak_memory())"
    )
    out = subprocess.run([sys.executable, "-c", script, tmp_path / "clip.mp4"], capture_output=True, text=True)
    status, peak = out.stdout.split()[-2:]
    assert status == "0" and int(peak) < 2 * 2**30, out.stdout + out.stderr
