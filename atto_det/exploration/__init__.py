"""Machine-driven design exploration: from requirements to networks, and to a generator of them."""

from atto_det.exploration.generator import Generator
from atto_det.exploration.requirements import Requirements
from atto_det.exploration.space import Space

__all__ = ["Generator", "Requirements", "Space"]
