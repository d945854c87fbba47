"""Looks at a database and writes a first configuration for it, for `reaper init`. Changes nothing there.

`recognise` finds the tables of systems for which a profile is shipped. `render` writes what was found as TOML.
"""
