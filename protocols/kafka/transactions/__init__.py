"""Producers and their ids."""
