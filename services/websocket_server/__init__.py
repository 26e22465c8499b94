"""The ranked lists as JSON over WebSocket, for browsers and for consumers of the older system."""
