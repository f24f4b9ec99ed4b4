"""Sounding videos on disk: which there are, what each shows, and which part of a published set it is in."""
