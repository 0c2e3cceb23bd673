"""Models of two networks: generators that learn from a discriminator."""
