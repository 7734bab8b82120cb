"""`python -m heliotrope`, the same as the `heliotrope` command."""

from heliotrope.cli import main

main()
