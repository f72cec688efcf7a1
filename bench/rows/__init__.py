"""The rows of the benchmark, a file per protocol or part. table.py lists them."""
