"""Preprocessing of Outbrain's CSV files to a data set, with NVTabular."""
