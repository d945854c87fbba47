"""What users depend on, as it was last recorded. README.md says how it is compared, and how it is recorded again."""
