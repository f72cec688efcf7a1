"""What retention takes from the log though a queue still owes it to a reader."""
