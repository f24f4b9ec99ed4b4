"""The recipe of the bundled model `tiny`."""
