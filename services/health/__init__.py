"""The mesh's health as the public door shows it."""
