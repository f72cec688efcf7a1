"""Screens of the mesh itself: its nodes and links, and whether all is well."""
