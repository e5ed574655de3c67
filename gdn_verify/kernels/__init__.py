"""This project's own GDN kernels. They know nothing of cases, paths or checks (floor 0)."""
