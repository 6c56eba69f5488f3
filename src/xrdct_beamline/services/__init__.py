"""Long-running compositions: live processing, integration of files."""
