"""What a failed test's report shows of the wire."""
