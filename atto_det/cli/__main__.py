"""`python -m atto_det.cli` is `atto-det`."""

import sys

from atto_det.cli import main

sys.exit(main())
