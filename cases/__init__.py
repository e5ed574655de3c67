"""Cases: the contract's words as types, value recipes and generators (floor 0)."""
