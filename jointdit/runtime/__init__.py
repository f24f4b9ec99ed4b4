"""Where weights rest, in which numbers, and how fast: settings that any pipeline can take."""
