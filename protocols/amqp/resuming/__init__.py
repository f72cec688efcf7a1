"""Links that may be resumed: deliveries go on where an earlier link of the same name has left them."""
