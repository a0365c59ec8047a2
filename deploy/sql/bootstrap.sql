-- Roles, database and schemas, once per cluster, by a superuser:  psql -v ON_ERROR_STOP=1 -f deploy/sql/bootstrap.sql
-- Repeatable. Passwords: ALTER ROLE … PASSWORD afterwards, or authenticate by socket or certificate.
--   <schema>_owner   runs migrations, owns the tables
--   <schema>_app     the service: no DDL, cannot bypass row-level security
--   <schema>_relay   reads the outbox of all tenants, nothing else
--   <schema>_search  nobody logs in as it: owns the search functions, which bypass RLS and filter by tenant themselves
SELECT 'CREATE DATABASE crm' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'crm') \gexec
\connect crm
REVOKE ALL ON SCHEMA public FROM PUBLIC;
DO $$
DECLARE s text; r text;
BEGIN
	FOREACH s IN ARRAY ARRAY['auth', 'customers', 'sales', 'audit', 'bus'] LOOP
		FOREACH r IN ARRAY ARRAY['owner', 'app', 'relay'] LOOP
			IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = s || '_' || r) THEN
				EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', s || '_' || r);
			END IF;
			EXECUTE format('ALTER ROLE %I SET search_path = %I, extensions', s || '_' || r, s);
			EXECUTE format('ALTER ROLE %I SET app.tenant_id = ''00000000-0000-0000-0000-000000000000''', s || '_' || r);
		END LOOP;
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = s || '_search') THEN
			EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER BYPASSRLS', s || '_search');
		END IF;
		EXECUTE format('GRANT %I TO %I', s || '_search', s || '_owner');
		EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', s, s || '_owner');
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I, %I', s, s || '_app', s || '_relay');
		EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', s, s || '_search');
	END LOOP;
END $$;
CREATE SCHEMA IF NOT EXISTS extensions;
CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA extensions;
CREATE EXTENSION IF NOT EXISTS btree_gin SCHEMA extensions;
GRANT USAGE ON SCHEMA extensions TO PUBLIC;
