"""``python -m schedrl``."""

from schedrl.cli import main

main()
