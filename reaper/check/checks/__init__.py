"""The checks of `reaper check`, one module for each subject."""
