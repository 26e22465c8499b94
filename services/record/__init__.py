"""A live day, kept in the vendor's flat-file format."""
