"""Reports: what a run came to, as data first and as text second (floor 4)."""
