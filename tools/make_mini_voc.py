"""Draw the mini VOC: a small data set in VOC's layout with its 20 classes, to replace VOC."""

import sys

from atto_det.cli.make_mini_voc import main

if __name__ == "__main__":
    sys.exit(main())
