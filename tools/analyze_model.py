"""Count what a detector costs, part by part, beside others. No data is needed."""

import sys

from atto_det.cli.analyze import main

if __name__ == "__main__":
    sys.exit(main())
