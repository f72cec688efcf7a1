"""Logins by SASL."""
