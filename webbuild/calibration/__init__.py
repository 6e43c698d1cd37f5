"""What linear layers read, on a text that ships with the project or on a given one."""
