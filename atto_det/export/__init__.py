"""Detectors as ONNX files, in single precision and in 8 bits, and the runtimes to run them."""
