"""The commands of the recipe. `README.md` beside this file says in which order, and what each makes."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from .apart import train_audio_alone, train_video_alone, write_pair
from .attributes import train_attributes
from .autoencoders import train_audio_vae, train_video_vae
from .cache import write_cache
from .experts import train, train_sounds, train_videos
from .export import export
from .milestones import load_milestone, save_milestone
from .recipe import TinyRecipe
from .suggestions import train_suggestions
from .training_loop import Budget
from .vocoder import train_vocoder
from .words import train_words

COMMANDS: Mapping[str, tuple[Callable[[TinyRecipe], None], str]] = {
    "video-vae": (train_video_vae, "train the video autoencoder"),
    "audio-vae": (train_audio_vae, "train the audio autoencoder"),
    "vocoder": (train_vocoder, "train the vocoder"),
    "cache": (write_cache, "render scenes and keep their latents"),
    "train": (train, "train both experts, the Joint Blocks and the encoders together"),
    "videos": (train_videos, "train the video expert further"),
    "sounds": (train_sounds, "train the audio expert further"),
    "words": (train_words, "teach the text encoder words that captions do not have"),
    "attributes": (train_attributes, "teach the text encoder of a model to keep colours, sizes and the like"),
    "suggestions": (train_suggestions, "teach the image encoder of a model what pictures suggest"),
    "export": (export, "write the model"),
    "video-alone": (train_video_alone, "train a video expert that never meets an audio expert"),
    "audio-alone": (train_audio_alone, "train an audio expert that never meets a video expert"),
    "pair": (write_pair, "write a model of these two, with Joint Blocks that have learned nothing"),
    "save-milestone": (save_milestone, "keep what a run has learned in a small file"),
    "load-milestone": (load_milestone, "go on from such a file"),
}
ALONE, MILESTONES = ("video-alone", "audio-alone"), ("save-milestone", "load-milestone")
WRITING = ("export", "pair", *MILESTONES)
SHARED = ("runs", "start", "output", "milestone")  # options that are settings of the recipe itself, not of a command
APART = (*ALONE, "pair")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command. Raises SystemExit, with status 2 and one line for input that cannot be used."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    try:
        COMMANDS[command][0](recipe_of(command, options))
    except InputError as error:
        parser.exit(2, f"{parser.prog} {command}: error: {error}\n")


def recipe_of(command: str, options: Mapping[str, Any]) -> TinyRecipe:
    """The recipe with the given options of a command in place of its defaults."""
    shared = {name: value for name, value in options.items() if name in SHARED}
    own = {name: value for name, value in options.items() if name not in SHARED}
    budget = {name: own.pop(name) for name in ("minutes", "steps") if name in own}
    recipe = TinyRecipe(**shared)
    if command in APART:
        recipe = recipe.on_coarse_grid()
    group = command.replace("-", "_")
    if group == "suggestions":
        own |= budget
    elif budget:
        own["budget"] = Budget(**budget)
    return replace(recipe, **{group: replace(getattr(recipe, group), **own)}) if own else recipe


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jointdit.recipes.tiny",
        description="Make the bundled model. An interrupted command resumes when it is given again.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", argument_default=argparse.SUPPRESS
        )
        _add_options(command, name)
    return parser


def _add_options(command: argparse.ArgumentParser, name: str) -> None:
    """The options that a command reads; those that are left out stay as the recipe has them."""
    command.add_argument("--runs", type=Path, help="folder of everything that is made (runs/tiny)")
    if name not in WRITING:
        command.add_argument("--seed", type=int)
    if name not in ("cache", *WRITING):
        length = command.add_mutually_exclusive_group()
        length.add_argument("--steps", type=int, help="steps in all; repeats exactly")
    if name in ("video-vae", "audio-vae", "vocoder", "train", "videos", "sounds", *ALONE):
        length.add_argument("--minutes", type=float, help="minutes of training in all, earlier starts counted in")
        command.add_argument("--rate", type=float, help="peak learning rate")
        command.add_argument("--batch", type=int, help="samples of a step")
    if name in ("video-vae", "audio-vae", "vocoder"):
        command.add_argument("--scenes", type=int, help="synthetic scenes kept in memory")
    if name in ("train", "videos", "sounds", "words", "attributes", "suggestions", *ALONE, *WRITING):
        command.add_argument("--start", type=Path, help="a model to go on from, where --runs has no state yet")
    match name:
        case "vocoder":
            command.add_argument("--audio-vae", type=Path, help="learn from this autoencoder's log-mels too")
        case "cache":
            command.add_argument("--clips", type=int, help="scenes to render and encode")
            command.add_argument("--part", type=_part, metavar="K/N", help="every N-th shard, from the K-th on (0/1)")
        case "videos" | "sounds" | "video-alone":
            command.add_argument("--bfloat16", action="store_true", help="autocast, for processors that have it")
        case "words":
            command.add_argument("--wordnet", type=Path, help="folder of WordNet 3.0 (/usr/share/wordnet)")
        case "attributes" | "suggestions":
            command.add_argument("--output", type=Path, required=True, help="folder of the model with what was learned")
        case "save-milestone" | "load-milestone":
            command.add_argument("--milestone", type=Path, help="the file (milestone.safetensors)")
        case "export" | "pair":
            required = name == "pair"  # never the bundled model's folder by default
            command.add_argument(
                "--output", type=Path, required=required, help="folder of the model (export: jointdit/tiny)"
            )


def _part(text: str) -> tuple[int, int]:
    part, parts = text.split("/")
    return int(part), int(parts)


if __name__ == "__main__":
    main()
