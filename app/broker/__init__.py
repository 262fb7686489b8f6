"""Where orders become fills, on paper."""
