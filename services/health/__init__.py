"""The mesh's health as the gateway shows it."""
