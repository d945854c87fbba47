"""For development and demonstration: no part of production."""
