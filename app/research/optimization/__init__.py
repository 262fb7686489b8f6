"""Looks for the parameters of a strategy, and says whether what it found can be believed."""
