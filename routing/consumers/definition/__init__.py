"""What a consumer is, as whoever opens it says it: members and modes, where it pushes to."""
