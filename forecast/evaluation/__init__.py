"""Backtests, metrics, calibration and the comparison of two forecasters."""
