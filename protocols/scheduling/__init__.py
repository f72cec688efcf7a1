"""Work of more than one turn of the loop, for all protocols: in slices, in coroutines, until a ticket is done."""
