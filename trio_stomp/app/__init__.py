"""What users write against: the app, its routes, and how a handler's parameters are filled."""
