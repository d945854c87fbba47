"""One pass over one source: survey, guards, reap, report."""
