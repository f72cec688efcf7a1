"""SUBSCRIBE: plain and shared subscriptions, and their retained events."""
