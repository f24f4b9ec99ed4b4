"""What the stand-in was asked to do, and what a test wants of it."""

from __future__ import annotations

loaded: list[str] = []  # class names of components, as they were taken to the device
shown: list[tuple[int, int, object]] = []  # progress: (value, total, preview)
interrupt_after: int | None = None  # checks until the interrupt; None: never
extra_data: dict[str, object] = {}  # of the running job: what the page said besides its graph
