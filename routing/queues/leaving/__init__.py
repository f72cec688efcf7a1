"""What leaves a queue unread: what is too old or too much, what readers give up, and where dead letters go."""
