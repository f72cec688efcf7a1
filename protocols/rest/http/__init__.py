"""Below the handlers: connections, bodies, short answers and what waits for the disk."""
