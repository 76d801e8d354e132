"""Localisation of an organ in a scan, from small frames along its three axes."""
