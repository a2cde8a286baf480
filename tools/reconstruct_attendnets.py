"""Find the AttendNets' widths again from their published sizes."""

import sys

from atto_det.cli.reconstruct_attendnets import main

if __name__ == "__main__":
    sys.exit(main())
