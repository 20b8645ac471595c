"""A directory that knows the groups of persons."""
