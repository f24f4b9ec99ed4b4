"""How the bundled model `tiny` was made: `python -m jointdit.recipes.tiny COMMAND`. README.md beside this file."""
