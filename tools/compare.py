"""Trained detectors side by side: accuracy, cost, latency; an ablation; the Pareto plot."""

import sys

from atto_det.cli.compare import main

if __name__ == "__main__":
    sys.exit(main())
