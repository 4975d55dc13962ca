-- name: create_database
-- The server's own database, made at the first start of an embedded cluster.
CREATE DATABASE gocdnext;

-- name: ping
-- The cheapest round trip.
SELECT 1;

-- name: server_encoding
-- An external server's database must keep text as UTF-8.
SHOW server_encoding;

-- name: backend
-- Which process of the server is at the other end.
SELECT pg_backend_pid();
