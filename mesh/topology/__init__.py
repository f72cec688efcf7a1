"""Who is in the mesh and how to get there: gossiped node states, routes, interest. Sans-IO, see overlay.py."""
