"""What stands behind links: queues, topics, transactions, management."""
