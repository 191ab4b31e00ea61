"""Which windows of a panel exist, and how batches of them are gathered and scaled."""
