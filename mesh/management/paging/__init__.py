"""Tables a page at a time: filters, cursors, and rows in steps, so that no list holds the loop."""
