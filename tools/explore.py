"""Explore designs: from requirements to networks, and to a generator of them."""

import sys

from atto_det.cli.explore import main

if __name__ == "__main__":
    sys.exit(main())
