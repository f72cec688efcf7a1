"""The management API as the dashboard uses it."""
