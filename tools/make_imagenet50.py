"""Select the classes of a list from ImageNet (ILSVRC2012) into train/<wnid>/ and val/<wnid>/."""

import sys

from atto_det.cli.make_imagenet50 import main

if __name__ == "__main__":
    sys.exit(main())
