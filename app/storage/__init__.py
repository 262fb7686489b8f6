"""Everything that is kept on disk: the books, jobs and waits."""
