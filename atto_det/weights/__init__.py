"""Files of weights: detectors' checkpoints, and classifiers' backbones on their way into one."""
