"""Weights files: detectors' checkpoints, and classifiers' backbones for use in detectors."""
