"""The privileges that a source needs, and the GRANT statements for them."""
