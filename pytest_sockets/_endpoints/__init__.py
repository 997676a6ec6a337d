"""What users hold: servers, peers, pairs, connections, and the factory behind the fixtures."""
