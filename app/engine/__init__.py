"""What turns agents into a running system; it knows no mode, no HTTP and no SQL."""
