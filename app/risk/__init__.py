"""What a trade may risk, and how an account did."""
