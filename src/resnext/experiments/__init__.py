"""The paper as something that runs: each table and figure from its design to its report."""
