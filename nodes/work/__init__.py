"""What the nodes do. Imported when one runs, because it imports diffusers and all that comes with it."""
