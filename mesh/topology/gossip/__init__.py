"""Link states from neighbour to neighbour, ours among them."""
