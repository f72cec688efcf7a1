"""Tables of the management API: rows, their query language, the formats they go out in."""
