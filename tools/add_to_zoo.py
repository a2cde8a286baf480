"""Make a file of the zoo of a trained backbone or detector, with its card."""

import sys

from atto_det.cli.add_to_zoo import main

if __name__ == "__main__":
    sys.exit(main())
