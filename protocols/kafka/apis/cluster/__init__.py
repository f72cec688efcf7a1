"""The cluster and its APIs."""
