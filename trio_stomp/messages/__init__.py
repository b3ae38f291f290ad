"""A message, its user, and how its body becomes a value and a value a body."""
