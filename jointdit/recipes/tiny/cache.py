"""Latents of synthetic scenes on disk, so that training steps neither render nor encode."""

from __future__ import annotations

import itertools
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
from ...synthetic import COLOURED, PictureSource, Scene, bundled_photos, render_scene, suggested_effect
from ...synthetic.effects.materials import COLOURS
from .architecture import picture_for_encoder
from .recipe import Cache, TinyRecipe

logger = logging.getLogger(__name__)
LATENTS, SOUNDS = "latents", "sounds.safetensors"  # the folder in the runs, and the file of sounds in it
SHARD, TWINS = "shard", "twins"  # how the names of the other files begin
REMEDY = "make it with `python -m jointdit.recipes.tiny cache`"


@dataclass(frozen=True)
class CachedScenes:
    """N scenes.

    video: [N, F, C, h, w] and audio: [N, C, l, m], scaled.    image: [N, C, h, w] as conditions have it, not scaled.
    Video and image are packed as the UNet takes them.    picture: uint8 [N, 3, s, s], for the image encoder.
    twins: numbers [T, K] of the scenes that differ in the colour of what is added alone, and name it.
    """

    video: Tensor
    audio: Tensor
    image: Tensor
    picture: Tensor
    captions: tuple[str, ...]
    effects: tuple[str, ...]
    twins: Tensor

    @classmethod
    def load(cls, folder: Path, latents_per_position: int, colours: int = Cache.colours_per_twins) -> CachedScenes:
        """All shards of a folder, and after them the twins, in so many colours each. Raises InputError for one without
        shards."""
        paths = sorted(folder.glob(f"{SHARD}-*.safetensors"))
        if not paths:
            raise InputError(f"{folder}: the cache has no shards; {REMEDY}")
        paths += sorted(folder.glob(f"{TWINS}-*.safetensors"))
        parts: dict[str, list[Tensor]] = {name: [] for name in ("video", "audio", "image", "picture")}
        captions: list[str] = []
        effects: list[str] = []
        single = 0
        for path in paths:
            with safe_open(path, framework="pt") as file:
                for name, tensors in parts.items():
                    tensors.append(file.get_tensor(name))
                metadata = file.metadata()
            captions += json.loads(metadata["captions"])
            effects += json.loads(metadata["effects"])
            if path.name.startswith(SHARD):
                single = len(captions)
        whole = {name: torch.cat(tensors) for name, tensors in parts.items()}
        for name in ("video", "image"):
            whole[name] = pack_latents(whole[name], latents_per_position)
        twins = torch.arange(single, len(captions)).reshape(-1, colours)
        return cls(**whole, captions=tuple(captions), effects=tuple(effects), twins=twins)

    @property
    def single(self) -> int:
        """How many scenes have no twin; they come first."""
        return len(self.captions) - self.twins.numel()

    def suggested(self) -> Tensor:
        """Numbers of the scenes [n] without twins whose effect is what their picture suggests."""
        pairs = zip(self.effects[: self.single], suggested_effects(self.picture[: self.single]), strict=True)
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
    scenes = CachedScenes.load(folder, recipe.architecture.latents_per_position, recipe.cache.colours_per_twins)
    return scenes, CachedSounds.load(folder)


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
    """Renders and encodes scenes of any effect, then those of the effects that their pictures suggest, then twins."""
    settings, pictures = recipe.cache, PictureSource.from_files(bundled_photos())
    part, parts = settings.part
    counts = {
        SHARD: settings.clips + settings.clips // settings.clips_per_suggestion,
        TWINS: settings.clips // settings.clips_per_twins * settings.colours_per_twins,
    }
    drawn = {SHARD: draw_scene, TWINS: draw_twin}
    files = [(kind, first) for kind, count in counts.items() for first in range(0, count, settings.clips_per_shard)]
    for kind, first in files[part::parts]:
        path = recipe.runs / LATENTS / f"{kind}-{first // settings.clips_per_shard:05d}.safetensors"
        if path.exists():
            continue
        numbers = range(first, min(first + settings.clips_per_shard, counts[kind]))
        scenes = [drawn[kind](recipe, number, pictures) for number in numbers]
        rows = [_encode(recipe, seed, scene, video, audio) for seed, scene in scenes]
        tensors = {name: torch.stack([row[name] for row in rows]).contiguous() for name in rows[0]}
        captions, effects = [scene.caption for _, scene in scenes], [scene.effect for _, scene in scenes]
        _save(path, tensors, captions=captions, effects=effects)
        logger.info("%s", path.name)


def draw_scene(recipe: TinyRecipe, number: int, pictures: PictureSource) -> tuple[int, Scene]:
    """The seed and a scene of any effect, or, from number `clips` on, of the one that its picture suggests."""
    seed = recipe.cache.seed + number
    scene = render_scene(seed, pictures=pictures, **vars(recipe.shape))
    if number >= recipe.cache.clips:
        effect = suggested_effect(scene.picture)
        scene = render_scene(seed, pictures=pictures, effect=effect, **vars(recipe.shape))
    return seed, scene


def draw_twin(recipe: TinyRecipe, number: int, pictures: PictureSource) -> tuple[int, Scene]:
    """The seed and one of the scenes, `colours_per_twins` in a row, that differ in a colour alone; captions name it."""
    settings, shape = recipe.cache, recipe.shape
    twins, place = divmod(number, settings.colours_per_twins)
    effect = COLOURED[twins % len(COLOURED)]
    for seed in itertools.count(settings.twin_seed + settings.seed + 1000 * twins):
        small = render_scene(seed, frames=shape.frames, fps=shape.fps, height=16, width=16, effect=effect)
        if small.parameters["colour"] in small.caption.split():
            colour = list(COLOURS)[(twins + place) % len(COLOURS)]
            return seed, render_scene(seed, pictures=pictures, effect=effect, colour=colour, **vars(shape))
    raise AssertionError("some caption of every such effect names its colour")


def _encode(
    recipe: TinyRecipe, seed: int, scene: Scene, video: VideoAutoencoder, audio: AudioAutoencoder
) -> dict[str, Tensor]:
    """Tensors of a scene of the cache."""
    pixels = rearrange(torch.from_numpy(scene.frames), "f h w c -> f c h w")
    frames = to_model_range(pixels)
    noise = torch.randn(frames[:1].shape, generator=torch.Generator().manual_seed(seed))
    return {
        "video": video.encode_video(frames[None])[0].half(),
        "audio": audio.encode_audio(torch.from_numpy(scene.audio)[None])[0].half(),
        "image": video.encode_image(frames[:1] + recipe.sampling.noise_augmentation * noise)[0].half(),
        "picture": picture_for_encoder(pixels[:1], recipe.architecture.picture_size)[0],
    }


def _save(path: Path, tensors: Mapping[str, Tensor], **texts: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        save_file(dict(tensors), temporary, metadata={name: json.dumps(each) for name, each in texts.items()})
