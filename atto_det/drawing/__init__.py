"""Pictures with drawings of what a model detects, or of the ground truth."""
