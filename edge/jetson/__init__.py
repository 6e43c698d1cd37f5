"""What is special to an NVIDIA Jetson."""
