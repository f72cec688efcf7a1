"""From the cursor to a member and back: read ahead, handed out, answered, taken back."""
