"""The mesh from one node: other nodes are asked over the links, and answer for people who asked elsewhere."""
