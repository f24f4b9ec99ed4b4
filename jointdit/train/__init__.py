"""Training: the recipes of the bundled model, and of models on the user's own data."""
