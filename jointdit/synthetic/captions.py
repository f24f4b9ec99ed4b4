"""Captions with varied wording.

They say what happens, never when or how often: sight and sound must agree on that by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

OPENINGS = ("", "", "", "", "in this scene, ", "in view: ", "the picture comes alive: ")

# Slots in braces are filled from the synonyms, or from the scene's own attributes.
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "ball": (
        "a {size} {colour} ball {bounce} {floor}",
        "a {colour} {material} ball {bounce}",
        "a {size} {material} ball {bounce} {floor}",
        "a {size} {colour} ball of {stuff} {bounce}",
        "the knock of a {size} {material} ball {floor}",
        "bouncing ball",
        "a ball {bounce} {floor}",
        "the {colour} ball drops and {bounce}",
        "{material} ball bouncing {floor}",
    ),
    "lightning": (
        "{lightning} and {thunder}",
        "{lightning} {sky}",
        "a {darkness} {storm} with {lightning}",
        "{lightning} with {thunder}",
        "{thunder} in a {storm}",
        "lightning strikes {sky}",
        "thunderstorm",
    ),
    "hammer": (
        "a {material} hammer {strikes} from the {side}",
        "blows of a {material} hammer shake {everything}",
        "{hammering} on {stuff} from the {side}",
        "a {heavy} hammer of {stuff} {strikes}",
        "{hammering} with a {material} hammer",
        "a {material} hammer {strikes} and {everything} shakes",
        "hammering",
    ),
    "heartbeat": (
        "a {beating} heart",
        "the picture {pulses} like a heart",
        "a {pitch} heartbeat",
        "{heart} thumping, {everything} {pulses}",
        "{pitch} beats of a heart",
        "{everything} {pulses} with a heartbeat",
        "heartbeat",
    ),
    "pendulum": (
        "a {size} {colour} pendulum {swings}",
        "a pendulum {swings} and {ticks}",
        "the {ticking} of {clock}",
        "{clock} {ticks}",
        "a {colour} pendulum with {ticking}",
        "ticking pendulum",
        "a {size} {colour} pendulum {ticks}",
    ),
    "drops": (
        "water {drips} {surface}",
        "{pitch} drops of water {fall} {surface}",
        "{ripples} spread as drops {fall}",
        "a {dripping} tap with a {pitch} sound",
        "drops {fall} and make {ripples}",
        "{dripping} water",
        "plops of water {surface}",
    ),
    "rain": (
        "{density} rain {falls}",
        "{rain} {falls}",
        "{density} rain {falls} {over}",
        "a shower of {density} rain",
        "it is raining {over}",
        "{density} rain that comes and goes",
        "the hiss of {density} rain",
        "rain",
    ),
    "bell": (
        "a {size} {colour} bell {rings}",
        "a {colour} bell {swings} and {rings}",
        "a {size} bell {rings}",
        "{ringing} of a {size} bell",
        "a church bell {rings}",
        "the bell {rings} {adverb}",
        "bell ringing",
    ),
    "fireworks": (
        "{colour} fireworks {burst}",
        "{colour} {rockets} {burst} {sky}",
        "fireworks {burst} {sky}",
        "{rockets} rise and {burst} into {colour} sparks",
        "the bang of {colour} fireworks {sky}",
        "{rockets} with a loud bang",
        "fireworks",
    ),
    "siren": (
        "a {siren} {wails} in {colour} and {second} light",
        "a {pitch} siren, {colour} and {second} light",
        "{colour} and {second} lights {flash} to a siren",
        "the {lights} and siren of {vehicle}",
        "{vehicle} with its {pitch} siren on, {colour} and {second}",
        "a siren {wails} as {lights} {flash}",
        "a {wailing} siren",
        "siren",
    ),
}

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "rings": ("rings", "is ringing", "tolls", "chimes", "sounds"),
    "ringing": ("the ringing", "the toll", "the chime", "the sound"),
    "burst": ("burst", "explode", "go off", "crackle", "light up"),
    "rockets": ("rockets", "fireworks", "skyrockets", "sparks"),
    "bounce": ("bounces", "is bouncing", "hops up and down", "bounces up and down", "jumps and bounces"),
    "floor": ("on the ground", "on the floor", "on the table", "in front of the picture", "across the scene"),
    "lightning": ("lightning", "bright lightning", "flashes of lightning", "a lightning flash", "bolts of lightning"),
    "thunder": ("thunder", "rolling thunder", "loud thunder", "a clap of thunder", "rumbling thunder"),
    "storm": ("storm", "thunderstorm", "night storm", "violent storm"),
    "sky": ("in the sky", "over the land", "in the dark", "above the scene"),
    "strikes": ("strikes", "hits", "pounds", "bangs", "swings in and hits"),
    "hammering": ("hammering", "hammer blows", "loud knocking", "pounding"),
    "heavy": ("heavy", "big", "loud", "strong"),
    "everything": ("everything", "the picture", "the whole scene", "the view"),
    "beating": ("beating", "pounding", "thumping", "throbbing"),
    "pulses": ("pulses", "throbs", "swells", "beats"),
    "heart": ("heart", "a heart", "a strong heart"),
    "adverb": ("loudly", "clearly", "brightly", "warmly"),
    "clock": ("a clock", "an old clock", "a grandfather clock", "a wall clock"),
    "swings": ("swings", "is swinging", "swings to and fro", "sways from side to side"),
    "ticks": ("ticks", "is ticking", "goes tick tock", "clicks"),
    "ticking": ("ticking", "tick tock", "clicking"),
    "drips": ("drips", "is dripping", "drops"),
    "dripping": ("dripping", "leaking"),
    "fall": ("fall", "drip", "splash", "plop"),
    "surface": ("into a pool", "on the water", "on the surface", "into a puddle", "from above"),
    "ripples": ("ripples", "rings", "circles", "waves"),
    "rain": ("rain", "rainfall", "summer rain", "a rain shower"),
    "falls": ("falls", "is falling", "pours down", "comes down", "patters"),
    "over": ("over the scene", "on everything", "outside", "on the roofs", "over the land"),
    "siren": ("siren", "police siren", "fire engine siren", "warning siren"),
    "wails": ("wails", "howls", "sounds", "rises and falls", "blares"),
    "wailing": ("wailing", "howling", "blaring", "loud"),
    "lights": ("flashing lights", "emergency lights", "warning lights", "coloured lights"),
    "flash": ("flash", "glow", "turn"),
    "vehicle": ("a police car", "an ambulance", "a fire engine", "an emergency car"),
}


def draw_caption(rng: np.random.Generator, effect: str, attributes: Mapping[str, str]) -> str:
    """One caption of an effect; `attributes` are the scene's own words."""

    def fill(slot: re.Match[str]) -> str:
        return attributes.get(slot[1]) or str(rng.choice(SYNONYMS[slot[1]]))

    text = str(rng.choice(OPENINGS)) + re.sub(r"{(\w+)}", fill, str(rng.choice(TEMPLATES[effect])))
    return re.sub(r"\ba (?=[aeiou])", "an ", text)
