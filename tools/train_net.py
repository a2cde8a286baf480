"""Train and evaluate an Atto-MaskRCNN, or any Detectron2 model, from a config file."""

import sys

from atto_det.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
