"""Get PASCAL VOC 2012, check a folder in VOC layout, or write it as COCO JSON."""

import sys

from atto_det.cli.prepare_voc import main

if __name__ == "__main__":
    sys.exit(main())
