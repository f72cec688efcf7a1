"""The way in, behind router.py: routes, publishers, duplicates, and what is known of them after a start."""
