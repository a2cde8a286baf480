"""A pickle that runs code when it is read."""

from pathlib import Path


class Hostile:
    """Leaves the file `marker` behind when a pickle of it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.marker, "ran")
