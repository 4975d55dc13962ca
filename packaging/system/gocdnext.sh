#!/bin/sh
# The program runs with the Python that its compiled parts were built for, whichever `python3` is here.
exec @PYTHON@ /usr/lib/gocdnext/gocdnext "$@"
