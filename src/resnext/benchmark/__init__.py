"""Ours beside the peers, in one run: interleaved, medians, with what was measured on what."""
