"""Write trained weights for use elsewhere."""

import sys

from atto_det.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
