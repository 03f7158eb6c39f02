"""What people look at: overlays, the quickstart report, live views. Torch-free."""
