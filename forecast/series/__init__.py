"""Series in, series out: frequencies, panels, readers and forecasts."""
