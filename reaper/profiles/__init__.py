"""The shipped profiles (TOML), and the tables of their job systems (SQL)."""
