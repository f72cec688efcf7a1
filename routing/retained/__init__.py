"""Retained events: the last one of each topic, found by topic filter."""
