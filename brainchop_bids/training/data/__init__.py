"""Label maps, scans and patches that networks are trained on."""
