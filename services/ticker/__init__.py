"""One symbol over REST: its row, its company, its stored bars; stored scans; and the scanner filters."""
