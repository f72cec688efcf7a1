"""Conditions on what a member or a binding takes: selectors, and members that select."""
