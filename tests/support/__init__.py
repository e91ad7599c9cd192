"""What tests stand on: private servers, a line that can be cut."""
