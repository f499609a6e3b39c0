"""``python -m scaleout``."""

from scaleout.cli import main

main()
