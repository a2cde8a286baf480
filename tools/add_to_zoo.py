"""Create a zoo file, with its card, from a trained backbone or detector."""

import sys

from atto_det.cli.add_to_zoo import main

if __name__ == "__main__":
    sys.exit(main())
