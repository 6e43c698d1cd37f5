"""A folder of static files that any server or CDN can offer, and what a server makes of it."""
