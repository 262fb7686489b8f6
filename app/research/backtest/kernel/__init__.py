"""The compiled pass over the bars."""
