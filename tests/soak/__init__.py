"""The long forms of what the suite does in short: `make soak`."""
