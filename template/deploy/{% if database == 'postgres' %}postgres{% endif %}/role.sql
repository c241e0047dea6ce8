-- The role of the server: it owns the schema public of one database, and nothing more.
-- What a tool is tricked into running can neither start programs, nor read files, nor reach another database.
--
-- Compose runs this at the first start. Elsewhere, as the administrator of the server, in a new database `mcp`:
--   MCP_ROLE_PASSWORD=… psql "$ADMIN_URL" --set ON_ERROR_STOP=1 --file deploy/postgres/role.sql

\getenv password MCP_ROLE_PASSWORD

CREATE ROLE mcp LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';

REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO mcp;
ALTER SCHEMA public OWNER TO mcp;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
