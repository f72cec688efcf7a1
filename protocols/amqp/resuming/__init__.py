"""What is kept of links that may be resumed."""
