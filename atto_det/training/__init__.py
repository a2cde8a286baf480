"""What both engines do alike when they train: batches, the folder of a run, scores."""
