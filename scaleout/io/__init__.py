"""The edge: files to specs and back."""
