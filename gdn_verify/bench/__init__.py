"""How fast are the kernels? Ours and every peer found, on the same inputs, judged before they are timed."""
