"""From the files of a log to its segments, after any kind of end; and looking at a log by hand."""
