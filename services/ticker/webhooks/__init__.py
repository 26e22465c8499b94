"""Alerts sent to URLs: who gets which, what is sent, and its delivery."""
