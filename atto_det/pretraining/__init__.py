"""Training of image classifiers whose backbones detectors start from (with Lightning)."""
