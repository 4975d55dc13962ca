"""The command line. It talks HTTP through `gocdnext.client` and never touches the database.

One module per group of commands; `program` has the table of them and imports one only when it is called.
"""

from gocdnext.cli.program import main

__all__ = ["main"]
