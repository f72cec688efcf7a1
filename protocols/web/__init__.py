"""What everything that speaks HTTP shares: header fields, and the origin of a page."""
