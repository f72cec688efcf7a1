"""Logins, rights, quotas."""
