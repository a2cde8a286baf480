"""Pictures per second of classifiers beside MobileNet-V2, training and inference, in one run."""

import sys

from atto_det.cli.throughput import main

if __name__ == "__main__":
    sys.exit(main())
