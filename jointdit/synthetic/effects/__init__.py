"""The effects, each with what is seen and what is heard."""

from dataclasses import fields

from .base import Effect
from .impacts import Ball, Hammer
from .lights import Fireworks, Heartbeat, Lightning, Siren
from .swings import Bell, Pendulum
from .water import Drops, Rain

REGISTRY: dict[str, type[Effect]] = {
    effect.name: effect
    for effect in (Ball, Lightning, Hammer, Heartbeat, Pendulum, Rain, Siren, Drops, Bell, Fireworks)
}
EFFECTS: tuple[str, ...] = tuple(REGISTRY)
COLOURED = tuple(name for name, effect in REGISTRY.items() if "colour" in {field.name for field in fields(effect)})

__all__ = ["COLOURED", "EFFECTS", "REGISTRY", "Effect"]
