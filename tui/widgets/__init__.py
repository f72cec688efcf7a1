"""What draws lines of characters."""
