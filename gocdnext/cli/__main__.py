"""`python -m gocdnext.cli`: the same program from a checkout."""

from gocdnext.cli.program import main

main()
