"""The event loop, and what a node asks of its process."""
