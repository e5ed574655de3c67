"""Triton without a GPU: an interpreter that rounds as the hardware does (floor 0)."""
