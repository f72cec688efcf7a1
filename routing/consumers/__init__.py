"""Consumers: durable named readers of streams, their members, what they hand out and what is stored of them."""
