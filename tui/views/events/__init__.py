"""Screens of what is stored: streams, topics, events."""
