"""Connectors: what carries events to programs that do not come for them by themselves."""
