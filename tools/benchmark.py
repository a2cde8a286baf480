"""Time detectors by part, in turn, on one picture with fixed regions. No data is needed."""

import sys

from atto_det.cli.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
