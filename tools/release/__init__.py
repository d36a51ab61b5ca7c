"""Developer's commands around a release: the suite with other Pythons and other versions of what the package needs."""
