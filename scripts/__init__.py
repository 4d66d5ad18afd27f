"""Small generators: their output is kept in the repository, and tests compare it."""
