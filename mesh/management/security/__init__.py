"""Security in the management API: managed documents, drafts, revisions, conflicts."""
