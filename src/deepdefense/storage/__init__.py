"""What is kept on disk, and what it depends on."""
