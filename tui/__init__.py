"""The terminal dashboard, which sees the node through the management API only. A later issue fills it."""
