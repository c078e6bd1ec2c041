"""May a series be processed, by which rule, in which order, and is it whole?"""
