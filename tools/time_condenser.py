"""Time a condenser against an AttoNet module, by part."""

import sys

from atto_det.cli.time_condenser import main

if __name__ == "__main__":
    sys.exit(main())
