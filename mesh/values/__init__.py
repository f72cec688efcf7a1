"""What the settings of every part are written in: addresses, secrets, sizes and durations, certificates."""
