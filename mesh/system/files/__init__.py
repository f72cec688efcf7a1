"""Small files beside the log."""
