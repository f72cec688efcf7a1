"""Durable consumers that are opened at another node and go on there."""
