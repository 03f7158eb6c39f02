"""The torch-free runtime: artefacts in, instances out."""
