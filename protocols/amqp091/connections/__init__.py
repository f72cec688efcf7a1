"""One connection: its handshake, its frames, its end."""
