"""Latents of synthetic scenes in shards on disk, so that training steps neither render nor encode.

A shard is one safetensors file of `SHARD` scenes, written beside and renamed; a second start goes on after the last.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...encoders.autoencoders import AudioAutoencoder, VideoAutoencoder, pack_latents
from ...synthetic import PictureSource, bundled_photos, render_scene, suggested_effect
from .architecture import NOISE_AUGMENTATION, PACK, SHAPE, picture_for_encoder

logger = logging.getLogger(__name__)
SHARD = 100
SUGGESTED = 5  # to so many scenes comes one whose effect is what its picture suggests


@dataclass(frozen=True)
class LatentPool:
    """N scenes. video [N, F, C, h, w] and audio [N, C, l, m] scaled, image [N, C, h, w] as conditions have it (not
    scaled), video and image packed as the UNet takes them; picture uint8 [N, 3, 64, 64] for the image encoder; captions
    and effects as text."""

    video: Tensor
    audio: Tensor
    image: Tensor
    picture: Tensor
    captions: tuple[str, ...]
    effects: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> LatentPool:
        """All shards of a folder."""
        paths = sorted(folder.glob("shard-*.safetensors"))
        if not paths:
            raise FileNotFoundError(
                f"{folder}: no shards; make them with `python -m jointdit.recipes.tiny.experts cache`"
            )
        parts: dict[str, list[Tensor]] = {name: [] for name in ("video", "audio", "image", "picture")}
        captions: list[str] = []
        effects: list[str] = []
        for path in paths:
            with safe_open(path, framework="pt") as file:
                for name, tensors in parts.items():
                    tensors.append(file.get_tensor(name))
                metadata = file.metadata()
            captions += json.loads(metadata["captions"])
            effects += json.loads(metadata["effects"])
        whole = {name: torch.cat(tensors) for name, tensors in parts.items()}
        for name in ("video", "image"):
            whole[name] = pack_latents(whole[name], PACK)
        return cls(**whole, captions=tuple(captions), effects=tuple(effects))

    def suggested(self) -> Tensor:
        """Numbers of the scenes [n] whose effect is what their picture suggests."""
        pairs = zip(self.effects, suggested_effects(self.picture), strict=True)
        return torch.tensor([effect == suggested for effect, suggested in pairs]).nonzero()[:, 0]


def suggested_effects(pictures: Tensor) -> list[str]:
    """What each picture, uint8 [N, 3, h, w], suggests."""
    return [suggested_effect(picture) for picture in rearrange(pictures, "n c h w -> n h w c").numpy()]


@dataclass(frozen=True)
class SoundPool:
    """Sounds alone, which cost little to render and to train on: audio [N, C, l, m] scaled, captions."""

    audio: Tensor
    captions: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> SoundPool:
        """The one file of a folder."""
        path = folder / "sounds.safetensors"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; make it with `python -m jointdit.recipes.tiny.experts cache`")
        with safe_open(path, framework="pt") as file:
            return cls(file.get_tensor("audio"), tuple(json.loads(file.metadata()["captions"])))


@torch.no_grad()
def write_sounds(folder: Path, audio: AudioAutoencoder, clips: int, seed: int) -> None:
    """Renders and encodes the sounds of scenes seed .. seed + clips - 1, over pictures too small to cost time."""
    path = folder / "sounds.safetensors"
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    latents, captions = [], []
    for index in range(clips):
        scene = render_scene(seed + index, frames=SHAPE.frames, fps=SHAPE.fps, height=16, width=16)
        latents.append(audio.encode_audio(torch.from_numpy(scene.audio)[None])[0].half())
        captions.append(scene.caption)
    beside = path.with_suffix(".partial")
    save_file({"audio": torch.stack(latents)}, beside, metadata={"captions": json.dumps(captions)})
    os.replace(beside, path)


@torch.no_grad()
def write_shards(
    folder: Path, video: VideoAutoencoder, audio: AudioAutoencoder, clips: int, seed: int, part: int = 0, parts: int = 1
) -> None:
    """Renders and encodes scenes from `seed` on, `clips` of any effect and then clips // SUGGESTED of the effects that
    their pictures suggest; one of `parts` processes makes every `parts`-th shard."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = PictureSource.from_files(bundled_photos())
    scenes = range(clips + clips // SUGGESTED)
    for shard in range(part, -(-len(scenes) // SHARD), parts):
        path = folder / f"shard-{shard:05d}.safetensors"
        if path.exists():
            continue
        rows = [
            _encode(seed + number, number >= clips, pictures, video, audio)
            for number in scenes[shard * SHARD : (shard + 1) * SHARD]
        ]
        tensors = {name: torch.stack([row[0][name] for row in rows]).contiguous() for name in rows[0][0]}
        metadata = {"captions": json.dumps([row[1] for row in rows]), "effects": json.dumps([row[2] for row in rows])}
        beside = path.with_suffix(".partial")
        save_file(tensors, beside, metadata=metadata)
        os.replace(beside, path)
        logger.info("%s", path.name)


def _encode(
    seed: int, suggested: bool, pictures: PictureSource, video: VideoAutoencoder, audio: AudioAutoencoder
) -> tuple[dict[str, Tensor], str, str]:
    size = {"frames": SHAPE.frames, "fps": SHAPE.fps, "height": SHAPE.height, "width": SHAPE.width}
    scene = render_scene(seed, pictures=pictures, **size)
    if suggested:
        scene = render_scene(seed, pictures=pictures, effect=suggested_effect(scene.picture), **size)
    pixels = rearrange(torch.from_numpy(scene.frames), "f h w c -> f c h w")
    frames = pixels.float() / 127.5 - 1
    noise = torch.randn(frames[:1].shape, generator=torch.Generator().manual_seed(seed))
    tensors = {
        "video": video.encode_video(frames[None])[0].half(),
        "audio": audio.encode_audio(torch.from_numpy(scene.audio)[None])[0].half(),
        "image": video.encode_image(frames[:1] + NOISE_AUGMENTATION * noise)[0].half(),
        "picture": picture_for_encoder(pixels[:1])[0],
    }
    return tensors, scene.caption, scene.effect
