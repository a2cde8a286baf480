"""Losses, learning rate and AP of a training, also while it runs."""

import sys

from atto_det.cli.plot_training import main

if __name__ == "__main__":
    sys.exit(main())
