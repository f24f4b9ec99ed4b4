"""Prompts in words that no synthetic caption has, to see whether a model knows an effect by more than its captions."""

from collections.abc import Mapping

UNSEEN_WORDS: Mapping[str, tuple[str, ...]] = {
    "ball": ("a basketball dribbling along pavement", "someone dribbles basketballs", "marbles hopping downstairs"),
    "lightning": (
        "thunderbolts during foul weather",
        "an electrical tempest at midnight",
        "thunderclaps, electric discharges",
    ),
    "hammer": ("a blacksmith at his anvil", "carpenters driving nails with mallets", "a sledgehammer smashing bricks"),
    "heartbeat": ("cardiac rhythm", "pumping blood through veins", "someone's chest, pulsating under a stethoscope"),
    "pendulum": (
        "a metronome keeping tempo",
        "an oscillating weight of some timepiece",
        "chronometer, oscillating quietly",
    ),
    "drops": ("droplets trickling out of a faucet", "liquid trickles, droplet by droplet", "a leaky faucet drizzled"),
    "rain": ("a downpour", "wet weather, drizzling", "monsoon cloudburst drenching streets"),
    "bell": ("a carillon ding-donging", "gongs clanging inside some cathedral", "chapel belfry, clanging brass"),
    "fireworks": (
        "pyrotechnics at midnight",
        "firecrackers exploding, new year's eve",
        "a pyrotechnic display celebrating independence",
    ),
    "siren": (
        "an alarm with rotating beacons",
        "klaxon alarm screaming",
        "patrol vehicles hurrying past, beacons blinking",
    ),
}

# Written after the senses to learn from were chosen: nothing that is learned was chosen with these in view.
FRESH_WORDS: Mapping[str, tuple[str, ...]] = {
    "ball": (
        "boys practising tennis in a courtyard",
        "a rubbery sphere rebounding against concrete",
        "volleyball training, springy and quick",
    ),
    "lightning": (
        "a blinding discharge splits gloomy clouds",
        "electricity snapping overhead, then booming",
        "tempestuous weather near mountains",
    ),
    "hammer": ("a carpenter assembling furniture", "nails driven through planks", "forging iron at the smithy"),
    "heartbeat": (
        "a pulse racing under skin",
        "palpitations of some frightened patient",
        "blood rushing through arteries",
    ),
    "pendulum": (
        "a watchmaker's workshop",
        "timekeeping, minute by minute",
        "a cuckoo timepiece hanging beside stairs",
    ),
    "drops": ("icicles melting by noon", "a pipe oozes moisture", "condensation seeping, bead by bead"),
    "rain": ("umbrellas opened because a deluge began", "torrential precipitation", "a drizzle soaks gardens"),
    "bell": ("a gong struck at dawn", "sleigh jingles", "peals drifting out of an abbey steeple"),
    "fireworks": ("roman candles, squibs", "a firecracker popped", "festive detonations near a harbour"),
    "siren": ("a burglar alarm shrieks", "squad cars chasing thieves", "foghorn and hazard beacons"),
}
