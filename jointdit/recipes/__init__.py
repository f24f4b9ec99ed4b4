"""How the models of this project were made. Nothing imports this package."""
