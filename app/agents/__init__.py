"""The agents: one seat each in a cycle."""
