"""The peers at the common work, each run by the interpreter of an environment of its own."""
