"""Oracles: what a right kernel computes, and how far honest rounding may move it (floor 1)."""
