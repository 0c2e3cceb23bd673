"""Games of two players: generators that learn from a critic."""
