"""Operations on tensors and pictures that no network or detector owns."""
