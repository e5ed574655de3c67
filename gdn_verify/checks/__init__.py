"""Checks: one question about an observation a file (floor 3)."""
