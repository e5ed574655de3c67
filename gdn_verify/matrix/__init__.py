"""The matrix: what each implementation takes, where it agrees, and what it does with padding, among others, and after
others; from real judged cases, of as many runs as it takes."""
