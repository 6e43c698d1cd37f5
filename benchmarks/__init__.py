"""This project measured against its peers, each in one run and in turn."""
