"""The console listener: health, metrics and the management API."""
