"""Screens of who reads: consumers, clients, webhooks, bridges, what was given up on."""
