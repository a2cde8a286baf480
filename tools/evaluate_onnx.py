"""AP_d and AP_m of an exported detector on a data set, and the time that a picture takes."""

import sys

from atto_det.cli.evaluate_onnx import main

if __name__ == "__main__":
    sys.exit(main())
