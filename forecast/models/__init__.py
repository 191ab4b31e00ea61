"""Networks and baselines, the forecaster around them, and the folder they are saved to."""
