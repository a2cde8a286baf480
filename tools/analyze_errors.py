"""What a detector gets wrong on a data set, and what each kind of error costs: one HTML page."""

import sys

from atto_det.cli.analyze_errors import main

if __name__ == "__main__":
    sys.exit(main())
