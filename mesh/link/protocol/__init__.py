"""The protocol of links, sans-IO: frames, and the session that speaks them."""
