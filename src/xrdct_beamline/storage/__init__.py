"""What is kept: journal, raw frames, processed files, catalog."""
