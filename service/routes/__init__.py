"""HTTP routes, one module for each dialect."""
