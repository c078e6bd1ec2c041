"""Which images there are, and the patches and pairs made of them."""
