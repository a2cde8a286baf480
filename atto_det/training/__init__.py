"""Training code that both engines share: batches, the folder of a run, scores."""
