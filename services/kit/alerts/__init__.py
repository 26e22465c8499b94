"""Alert rules as the services use them."""
