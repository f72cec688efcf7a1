"""Host names to addresses, off the loop."""
