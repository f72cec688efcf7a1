"""Queues: consumers with bindings, limits and causes. docs/queues.md tells what they do, queues.py is the door."""
