"""What people see: snapshots and the page."""
