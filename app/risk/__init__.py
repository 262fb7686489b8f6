"""Measuring the account: what it has done, in numbers, and whether that is any good."""
