"""Operations on tensors and pictures that belong to no particular network or detector."""
