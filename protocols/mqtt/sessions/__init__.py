"""What outlives a connection: sessions, their subscriptions, and what waits for them."""
