"""The words of trading; standard library only, no I/O."""
