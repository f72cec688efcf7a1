"""A channel and its parts: content that comes, deliveries that are unacked, confirms, a transaction."""
