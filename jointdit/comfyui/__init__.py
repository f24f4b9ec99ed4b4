"""ComfyUI from outside, over HTTP: a client of its API and its workflow files."""
