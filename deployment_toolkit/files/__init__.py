"""Files and folders: complete writes, fingerprints, archives, downloads."""
