"""Pictures with what a model, or the ground truth, says is in them."""
