"""What goes wrong in the field, looked at from beside the server: one module for each theme, one function for each check.

It looks and changes nothing: no database is started, no schema brought up to date, no file left behind.
"""
