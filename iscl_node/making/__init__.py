"""One series, from its files: what is made of it, and why; the same in the node and on the command line."""
