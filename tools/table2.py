"""The AttoNet paper's Table 2, published beside recomputed and measured."""

import sys

from atto_det.cli.table2 import main

if __name__ == "__main__":
    sys.exit(main())
