"""Latents of synthetic scenes on disk, so that training steps neither render nor encode."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from einops import rearrange
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...encoders.autoencoders import AudioAutoencoder, VideoAutoencoder, pack_latents, to_model_range
from ...errors import InputError
from ...media.files import whole_file
from ...synthetic import PictureSource, bundled_photos, render_scene, suggested_effect
from .architecture import picture_for_encoder
from .recipe import TinyRecipe

logger = logging.getLogger(__name__)
LATENTS, SOUNDS = "latents", "sounds.safetensors"  # the folder in the runs, and the file of sounds in it
REMEDY = "make it with `python -m jointdit.recipes.tiny cache`"


@dataclass(frozen=True)
class CachedScenes:
    """N scenes.

    video: [N, F, C, h, w] and audio: [N, C, l, m], scaled.    image: [N, C, h, w] as conditions have it, not scaled.
    Video and image are packed as the UNet takes them.    picture: uint8 [N, 3, s, s], for the image encoder.
    """

    video: Tensor
    audio: Tensor
    image: Tensor
    picture: Tensor
    captions: tuple[str, ...]
    effects: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, latents_per_position: int) -> CachedScenes:
        """All shards of a folder. Raises InputError for one without."""
        paths = sorted(folder.glob("shard-*.safetensors"))
        if not paths:
            raise InputError(f"{folder}: the cache has no shards; {REMEDY}")
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
            whole[name] = pack_latents(whole[name], latents_per_position)
        return cls(**whole, captions=tuple(captions), effects=tuple(effects))

    def suggested(self) -> Tensor:
        """Numbers of the scenes [n] whose effect is what their picture suggests."""
        pairs = zip(self.effects, suggested_effects(self.picture), strict=True)
        return torch.tensor([effect == suggested for effect, suggested in pairs]).nonzero()[:, 0]


@dataclass(frozen=True)
class CachedSounds:
    """Sounds alone, which cost little to render and to train on. audio: [N, C, l, m], scaled."""

    audio: Tensor
    captions: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> CachedSounds:
        """The one file of a folder. Raises InputError for one without."""
        path = folder / SOUNDS
        if not path.exists():
            raise InputError(f"{path}: missing; {REMEDY}")
        with safe_open(path, framework="pt") as file:
            return cls(file.get_tensor("audio"), tuple(json.loads(file.metadata()["captions"])))


def load_cache(recipe: TinyRecipe) -> tuple[CachedScenes, CachedSounds]:
    """What `write_cache` wrote. Raises InputError where it has not."""
    folder = recipe.runs / LATENTS
    return CachedScenes.load(folder, recipe.architecture.latents_per_position), CachedSounds.load(folder)


def video_scale(recipe: TinyRecipe) -> float:
    """What the video autoencoder's latents are multiplied by, in the cache too."""
    return float(json.loads((recipe.runs / "video_vae" / "config.json").read_text("utf-8"))["scaling_factor"])


def suggested_effects(pictures: Tensor) -> list[str]:
    """What each picture, uint8 [N, 3, h, w], suggests."""
    return [suggested_effect(picture) for picture in rearrange(pictures, "n c h w -> n h w c").numpy()]


def write_cache(recipe: TinyRecipe) -> None:
    """The command `cache`: sounds and this process's shards, by the finished autoencoders; what is there is kept."""
    video = VideoAutoencoder(AutoencoderKLTemporalDecoder.from_pretrained(recipe.runs / "video_vae").eval())
    audio = AudioAutoencoder(AutoencoderKL.from_pretrained(recipe.runs / "audio_vae").eval(), vocoder=None)
    if recipe.cache.part[0] == 0:
        write_sounds(recipe, audio)
    write_shards(recipe, video, audio)


@torch.no_grad()
def write_sounds(recipe: TinyRecipe, audio: AudioAutoencoder) -> None:
    """Renders and encodes sounds, with pictures too small to cost time."""
    settings, path = recipe.cache, recipe.runs / LATENTS / SOUNDS
    if path.exists():
        return
    seed = settings.sound_seed + settings.seed
    latents, captions = [], []
    for number in range(settings.sounds_per_clip * settings.clips):
        scene = render_scene(seed + number, frames=recipe.shape.frames, fps=recipe.shape.fps, height=16, width=16)
        latents.append(audio.encode_audio(torch.from_numpy(scene.audio)[None])[0].half())
        captions.append(scene.caption)
    _save(path, {"audio": torch.stack(latents)}, captions=captions)


@torch.no_grad()
def write_shards(recipe: TinyRecipe, video: VideoAutoencoder, audio: AudioAutoencoder) -> None:
    """Renders and encodes scenes of any effect, and after them those of the effects that their pictures suggest."""
    settings = recipe.cache
    part, parts = settings.part
    pictures = PictureSource.from_files(bundled_photos())
    scenes = range(settings.clips + settings.clips // settings.clips_per_suggestion)
    shards = range(-(-len(scenes) // settings.clips_per_shard))
    for shard in shards[part::parts]:
        path = recipe.runs / LATENTS / f"shard-{shard:05d}.safetensors"
        if path.exists():
            continue
        numbers = scenes[shard * settings.clips_per_shard : (shard + 1) * settings.clips_per_shard]
        rows, captions, effects = [], [], []
        for number in numbers:
            tensors, caption, effect = _encode_scene(recipe, number, pictures, video, audio)
            rows.append(tensors)
            captions.append(caption)
            effects.append(effect)
        tensors = {name: torch.stack([row[name] for row in rows]).contiguous() for name in rows[0]}
        _save(path, tensors, captions=captions, effects=effects)
        logger.info("%s", path.name)


def _encode_scene(
    recipe: TinyRecipe, number: int, pictures: PictureSource, video: VideoAutoencoder, audio: AudioAutoencoder
) -> tuple[dict[str, Tensor], str, str]:
    """Tensors, caption and effect of a scene of the cache."""
    seed = recipe.cache.seed + number
    scene = render_scene(seed, pictures=pictures, **vars(recipe.shape))
    if number >= recipe.cache.clips:
        effect = suggested_effect(scene.picture)
        scene = render_scene(seed, pictures=pictures, effect=effect, **vars(recipe.shape))
    pixels = rearrange(torch.from_numpy(scene.frames), "f h w c -> f c h w")
    frames = to_model_range(pixels)
    noise = torch.randn(frames[:1].shape, generator=torch.Generator().manual_seed(seed))
    tensors = {
        "video": video.encode_video(frames[None])[0].half(),
        "audio": audio.encode_audio(torch.from_numpy(scene.audio)[None])[0].half(),
        "image": video.encode_image(frames[:1] + recipe.sampling.noise_augmentation * noise)[0].half(),
        "picture": picture_for_encoder(pixels[:1], recipe.architecture.picture_size)[0],
    }
    return tensors, scene.caption, scene.effect


def _save(path: Path, tensors: Mapping[str, Tensor], **texts: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        save_file(dict(tensors), temporary, metadata={name: json.dumps(each) for name, each in texts.items()})
