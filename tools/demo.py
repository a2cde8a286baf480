"""See it learn: draw a mini VOC, train a small Atto-MaskRCNN on it, evaluate, draw the result."""

import sys

from atto_det.cli.demo import main

if __name__ == "__main__":
    sys.exit(main())
