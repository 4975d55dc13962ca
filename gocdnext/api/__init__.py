"""The HTTP API: thin blueprints that parse, authorise, call a service and answer."""
