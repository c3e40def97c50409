"""Performs what the core orders: on requests, on aiohttp, or made up (dev mode)."""
