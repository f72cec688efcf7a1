"""Figures of the node over time: samples, histories, trends, what needs attention, the live stream, metrics."""
