"""A day that is played again: a flat file or stored minute bars as the feed."""
