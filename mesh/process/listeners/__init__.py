"""Bound addresses, TLS, and the Unix socket of the console."""
