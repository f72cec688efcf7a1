"""What the methods of clients do on a channel."""
