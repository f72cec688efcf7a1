"""The way to every node over the links that there are."""
