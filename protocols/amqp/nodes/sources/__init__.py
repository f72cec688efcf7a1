"""What receivers are attached to: queues, topics, streams, subscriptions."""
