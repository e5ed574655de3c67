"""Chunked prefill: q, k, v, g, β → o and the state at each row's end, over rows of any length."""
