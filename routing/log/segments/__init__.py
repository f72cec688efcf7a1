"""One file of a partition, the small files beside it, and what may be wrong with them."""
