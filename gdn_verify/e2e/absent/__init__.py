"""Packages that text models import and never call, for environments that cannot have them."""
