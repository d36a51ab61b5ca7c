"""Developer commands for a release: the suite with other Pythons and other versions of dependencies."""
