"""The demonstration: a real head CT goes through the real node, from a sender to an archive, and is measured.

A composition root like ``service`` and ``offline``: it joins the rooms, and the node runs as a process of its own.
"""
