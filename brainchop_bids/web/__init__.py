"""The browser app: its folder for any web server, and a server for this machine."""
