"""The browser door: ranked lists as JSON over WebSocket, as consumers of the older system know them."""
