"""Benchmarks: the node and the real peers on the same work in the same run. See docs/benchmarks.md."""
