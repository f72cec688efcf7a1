"""Byte streams, for all protocols: the seam to them, sockets, reads in slices, a listener that several share."""
