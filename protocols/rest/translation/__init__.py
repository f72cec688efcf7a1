"""An event as HTTP carries it: header fields and documents, both ways."""
