"""The command line: it parses, prints and sets exit codes, and decides nothing else."""
