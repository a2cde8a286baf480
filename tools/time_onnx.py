"""Time ONNX files in ONNX Runtime or OpenVINO, one after the other in every round."""

import sys

from atto_det.cli.time_onnx import main

if __name__ == "__main__":
    sys.exit(main())
