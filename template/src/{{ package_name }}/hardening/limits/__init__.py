"""How often and how many at once."""
