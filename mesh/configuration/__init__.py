"""One TOML file to typed settings, checked; and what it points to."""
