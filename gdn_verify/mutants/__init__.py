"""Defective copies of paths: the suite measures itself on them (floor 4)."""
