"""The web console, which sees the node through the management API only (mesh/management). A later issue fills it."""
