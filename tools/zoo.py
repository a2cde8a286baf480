"""List the backbones and detectors that come with the package, or write their page."""

import sys

from atto_det.cli.zoo import main

if __name__ == "__main__":
    sys.exit(main())
