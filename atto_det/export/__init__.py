"""Detectors as files for other runtimes, in single precision and in 8 bits, and to run them."""
