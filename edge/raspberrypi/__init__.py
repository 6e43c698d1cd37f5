"""What is special to a Raspberry Pi."""
