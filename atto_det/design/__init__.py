"""Designs of networks: spaces, what is asked of a network, its exact cost, and generators.

A generator draws a network from a space by seed. `find_network` opens the file of a found network
or of a generator where a user names one.
"""

from atto_det.design.generator import Generator
from atto_det.design.networks import find_network
from atto_det.design.requirements import Requirements
from atto_det.design.space import Space

__all__ = ["Generator", "Requirements", "Space", "find_network"]
