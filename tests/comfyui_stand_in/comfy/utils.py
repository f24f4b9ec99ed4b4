from __future__ import annotations

shown: list[tuple[int, int, object]] = []


class ProgressBar:
    """Keeps what would be shown: (value, total, preview)."""

    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None, preview: object = None) -> None:
        shown.append((value, total, preview))
