"""Top-1 of classifiers on pictures that were changed to mislead them."""

import sys

from atto_det.cli.robustness import main

if __name__ == "__main__":
    sys.exit(main())
