"""Draw ground truth, predictions, or both side by side; no display is needed."""

import sys

from atto_det.cli.visualize import main

if __name__ == "__main__":
    sys.exit(main())
