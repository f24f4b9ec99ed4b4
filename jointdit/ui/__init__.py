"""The web page `jointdit ui` (extra `ui`, Gradio): everything that a clip can be asked for, in a browser."""
