"""From a panel and a spec to a trained forecaster."""
