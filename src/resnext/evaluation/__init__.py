"""Scoring of any module on any batches."""
