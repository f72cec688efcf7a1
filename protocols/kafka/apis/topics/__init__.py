"""Topics and configurations."""
