"""Nothing for Python: see feed_scanner.pxd."""
