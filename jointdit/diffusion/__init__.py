"""Noise levels, denoisers, samplers and guidance. Nothing here knows a file or a prompt."""
