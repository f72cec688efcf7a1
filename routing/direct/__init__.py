"""The direct lane: live subscriptions, at most once, and the replies that come in by it."""
