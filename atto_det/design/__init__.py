"""Designing networks: spaces, requirements, exact cost, and generators.

A generator draws a network from a space by a seed. `find_network` opens the file of a found network
or of a generator if a user names one.
"""

from atto_det.design.generator import Generator
from atto_det.design.networks import find_network
from atto_det.design.requirements import Requirements
from atto_det.design.space import Space

__all__ = ["Generator", "Requirements", "Space", "find_network"]
