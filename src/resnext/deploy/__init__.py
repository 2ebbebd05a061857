"""From weights to use: pages that explore networks."""
