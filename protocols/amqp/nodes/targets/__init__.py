"""Where what senders send goes."""
