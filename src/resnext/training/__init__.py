"""Training of any module on any batches: recipes, the rate's schedule, the loop, checkpoints."""
