"""Screens of who may do what, and of who did."""
