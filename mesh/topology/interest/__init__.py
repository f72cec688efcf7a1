"""What nodes want, as few topic filters as possible."""
