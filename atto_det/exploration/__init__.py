"""Machine-driven design exploration: from requirements to a network, and to a generator of them."""
