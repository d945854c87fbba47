"""Looks at a database and writes a first configuration for it, for `reaper init`. Changes nothing there.

`recognise` finds the tables of systems for which a profile is shipped. `own_table` looks at a table for which none is,
and `propose` makes a profile of what was seen. `render` writes both as TOML.
"""
