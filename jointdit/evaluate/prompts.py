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
