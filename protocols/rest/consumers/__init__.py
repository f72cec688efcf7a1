"""Durable consumers over HTTP: made, changed, pulled from, and what they gave up on."""
