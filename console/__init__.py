"""The web console, which sees the node through the management API only (mesh/admin.py). A later issue fills it."""
