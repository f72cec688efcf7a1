"""What queues still owe their readers of segments whose time is over."""
