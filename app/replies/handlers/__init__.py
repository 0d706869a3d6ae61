"""One file for each family of topics and moments: what the policy does there."""
