"""Checkpoints to artefacts: one target per file, each checked against PyTorch before it is written. Needs torch."""
