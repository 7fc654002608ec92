"""Outbrain's CSV files to a data set, by NVTabular."""
