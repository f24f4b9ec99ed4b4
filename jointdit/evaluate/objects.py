"""Is the object of an effect painted, or only a stain in its place? A strict judge of single frames.

It learns from crisp scenes alone, in which an object is as it is drawn, against the same moments without the object
(their light and their jolts stay), and against stains: the object blurred, torn, or dissolved into grain. Frames are
uint8 [T, H, W, 3].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from torch import Tensor, nn

from ..synthetic import PictureSource, Scene, bundled_photos, render_scene
from ..synthetic.effects import REGISTRY
from ..synthetic.effects.base import Effect
from ..synthetic.timeline import Timeline

FIRST_SEED = 750_000_000  # of the scenes that the judge learns from
HIDDEN: dict[str, dict[str, Any]] = {  # parameters that take the object out of sight and leave all else
    "ball": {"radius": 1e-3},
    "bell": {"size": 1e-3},
    "pendulum": {"radius": -100.0},
    "hammer": {"level": 100.0},
    "lightning": {"places": 100.0},
    "drops": {"columns": 100.0},
}
OBJECTS = tuple(HIDDEN)  # effects with an object that has an outline; a ring and a falling drop are that of drops
OTHERS = ("fireworks", "heartbeat", "rain", "siren")
SIDE = 128  # pixels to which frames are reduced
LEAST_CHANGE, LEAST_SHARE = 24, 0.004  # grey levels by which a pixel is the object's, and share of them in its frames
LEAST_BLUR, MOST_BLUR = 4.0, 9.0  # pixels of SIDE
POSITIVE = 3.0  # how much more a frame with an object counts: there are fewer of them
FRAMES = 4  # of a scene that the judge learns from
SHOWN = 3  # frames in which an object must be seen

Frame = NDArray[np.floating]  # [H, W, 3] in grey levels


def without_object(scene: Scene) -> NDArray[np.uint8]:
    """The frames of a scene of one of `OBJECTS` without its object."""
    cls = REGISTRY[scene.effect]
    painter: Effect = cls(**{field.name: scene.parameters[field.name] for field in fields(cls)})
    changes = {
        name: (value,) * len(scene.events) if isinstance(getattr(painter, name), tuple) else value
        for name, value in HIDDEN[scene.effect].items()
    }
    timeline = Timeline(len(scene.frames), scene.fps, scene.events, scene.parameters["strengths"])
    return replace(painter, **changes).render(scene.picture, timeline)


def frames_with_object(scene: Scene, without: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Indices of the frames in which the object can be seen."""
    change = np.abs(scene.frames.astype(np.float32) - without).max(-1)
    return np.flatnonzero((change > LEAST_CHANGE).mean((1, 2)) > LEAST_SHARE)


def stain(frame: Frame, without: Frame, rng: np.random.Generator) -> Frame:
    """The frame with a stain for its object: blurred, and half of the time torn out of shape, or grainy, or both."""
    added = frame - without
    height, width = added.shape[:2]
    if torn := rng.random() < 0.5:
        shifts = [zoom(rng.normal(0, 7, (8, 8)), (height / 8, width / 8), order=1) for _ in range(2)]
        rows, columns = np.mgrid[:height, :width]
        places = [rows + shifts[0], columns + shifts[1]]
        added = np.stack([map_coordinates(added[..., c], places, order=1) for c in range(3)], -1)
    blur = rng.uniform(1.0 if torn else LEAST_BLUR, MOST_BLUR)
    added = gaussian_filter(added, (blur, blur, 0)) * rng.uniform(0.5, 1.2)
    if rng.random() < 0.5:
        cells = rng.normal(1, 0.5, (16, 16, 3))
        added = added * zoom(cells, (height / 16, width / 16, 1), order=1)
    return np.asarray(without + added, np.float32)


class ObjectNet(nn.Module):
    """A frame and its difference from the first, [B, 6, SIDE, SIDE], to a logit for each of `OBJECTS`."""

    def __init__(self) -> None:
        super().__init__()
        widths = (6, 24, 48, 64, 96)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.features = nn.Sequential(*layers, nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.SiLU())
        self.head = nn.Linear(2 * widths[-1], len(OBJECTS))

    def forward(self, frames: Tensor) -> Tensor:
        found = self.features(frames).flatten(2)
        return self.head(torch.cat((found.amax(-1), found.mean(-1)), -1))


def _views(frames: NDArray[np.floating], first: NDArray[np.floating]) -> Tensor:
    """What the net sees of frames [N, H, W, 3], each beside a first frame [N or 1, H, W, 3]."""
    pair = np.concatenate([frames / 127.5 - 1, (frames - first) / 127.5], -1).astype(np.float32)
    tensor = torch.from_numpy(pair).permute(0, 3, 1, 2)
    if tensor.shape[-2:] != (SIDE, SIDE):
        tensor = nn.functional.interpolate(tensor, (SIDE, SIDE), mode="bilinear", antialias=True)
    return tensor


@dataclass(frozen=True, eq=False)
class ObjectJudge:
    """Says of a clip whether the object of an effect is in it."""

    net: ObjectNet

    @torch.no_grad()
    def probabilities(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of each of `OBJECTS` in each frame, [T, 6]. The first frame is the picture, before anything is added."""
        as_float = frames.astype(np.float32)
        return self.net(_views(as_float, as_float[:1])).sigmoid().numpy()

    def sees(self, frames: NDArray[np.uint8], effect: str) -> bool:
        """Whether the object is there in at least `SHOWN` frames of a clip, whose first is the picture."""
        found = self.probabilities(frames)[:, OBJECTS.index(effect)]
        return bool(np.sort(found)[-SHOWN] > 0.5)

    @classmethod
    def trained(
        cls, scenes: int = 40, epochs: int = 10, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> ObjectJudge:
        """Learns from so many scenes of each effect, over drawn pictures and the bundled photos."""
        inputs, labels = _examples(scenes, progress)
        torch.manual_seed(0)
        net = ObjectNet()
        optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.02)
        steps = epochs * -(-len(inputs) // 64)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
        generator = torch.Generator().manual_seed(0)
        weight = torch.tensor(POSITIVE)
        for _ in range(epochs):
            for index in torch.randperm(len(inputs), generator=generator).split(64):
                batch = inputs[index].float() / 127.5
                batch = batch + 0.03 * torch.randn(batch.shape, generator=generator)  # no more than an autoencoder's
                if torch.rand((), generator=generator) < 0.5:
                    batch = batch.flip(-1)
                loss = nn.functional.binary_cross_entropy_with_logits(net(batch), labels[index], pos_weight=weight)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return cls(net.eval())


def _examples(scenes: int, progress: Callable[[int, int], None]) -> tuple[Tensor, Tensor]:
    """Views in half precision, times 127.5, and labels [N, 6]."""
    pictures = PictureSource.from_files(bundled_photos())
    effects = (*OBJECTS, *OTHERS)
    views: list[Tensor] = []
    labels: list[Tensor] = []

    def add(frames: Sequence[Frame], first: NDArray[np.uint8], label: Tensor) -> None:
        views.append((_views(np.stack(frames), first[None].astype(np.float32)) * 127.5).half())
        labels.append(label.expand(len(frames), -1))

    nothing = torch.zeros(len(OBJECTS))
    for index in range(scenes * len(effects)):
        effect = effects[index % len(effects)]
        rng = np.random.default_rng(index)
        scene = render_scene(FIRST_SEED + index, effect=effect, pictures=pictures, height=SIDE, width=SIDE)
        if effect in OBJECTS:
            without = without_object(scene)
            shown = frames_with_object(scene, without)
            chosen = rng.permutation(shown)[:FRAMES]
            pairs = [(scene.frames[k].astype(np.float32), without[k].astype(np.float32)) for k in chosen]
            if pairs:
                there = nothing.clone()
                there[OBJECTS.index(effect)] = 1
                add([frame for frame, _ in pairs], scene.picture, there)
                add([bare for _, bare in pairs], scene.picture, nothing)
                add([stain(frame, bare, rng) for frame, bare in pairs for _ in range(2)], scene.picture, nothing)
        else:
            chosen = rng.permutation(len(scene.frames))[:FRAMES]
            add([scene.frames[k].astype(np.float32) for k in chosen], scene.picture, nothing)
        progress(index + 1, scenes * len(effects))
    return torch.cat(views), torch.cat(labels)
