"""Screens of who reads: consumers, clients, webhooks, what was given up on."""
