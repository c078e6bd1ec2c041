"""How good a denoiser is, on real slices and on phantoms: what the node makes of them is measured, nothing is trained.

``python -m iscl_node.assessment`` is the gate that weights must pass (``make quality``).
"""
