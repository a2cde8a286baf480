"""Train a classifier whose backbone a detector can start from. Lightning's command line."""

import sys

from atto_det.cli.pretrain import main

if __name__ == "__main__":
    sys.exit(main())
